/* The dialogs that ask why a comparison is left. */

/* Call `leave` with the reason, once one is chosen. "Another reason" goes into the field for its words while that is
 * empty, and Enter there gives it. */
export function askForReasons(leave) {
  const give = (button) => {
    const dialog = button.closest("dialog");
    const field = dialog.querySelector("input");
    const words = field.value.trim();
    if (isOther(button) && !words) return field.focus();
    field.value = "";
    dialog.close();
    leave(words ? `${button.dataset.reason} · ${words}` : button.dataset.reason);
  };
  for (const dialog of document.querySelectorAll("dialog:has([data-reason])")) {
    const buttons = [...dialog.querySelectorAll("[data-reason]")];
    for (const button of buttons) button.addEventListener("click", () => give(button));
    dialog.querySelector("input").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing && event.keyCode !== 229) give(buttons.find(isOther));
    });
  }
}

function isOther(button) {
  return button.dataset.reason.endsWith(": other");
}
