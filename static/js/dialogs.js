/* The dialogs that wait for a word of the annotator: why a comparison is left, what training taught, what was refused. */

import { readOut } from "./announcer.js";
import { AS_FRAGMENT, fragment } from "./fragments.js";
import { $, say } from "./page.js";

const HEARD_AFTER_MS = 200; // a live region that has just appeared is not listened to yet

/* Call `leave` with the reason, once one is chosen. "Another reason" goes into the field for its words, and Enter there
 * gives it. */
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

/* What a training answer should have been; resolves once it was read, or could not be had. */
export async function showFeedback(comparison) {
  const response = await fetch(comparison.form.dataset.feedback, AS_FRAGMENT).catch(() => null);
  if (!response?.ok) return;
  const dialog = $("feedback-dialog");
  const content = dialog.querySelector(".content");
  content.replaceChildren(fragment(await response.text()));
  dialog.showModal();
  setTimeout(() => readOut(content, say("goesOn")), HEARD_AFTER_MS);
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
}

/* One after the other, the answers that the server refused, with what was written in them. */
export async function showProblems(outbox) {
  const dialog = $("problem-dialog");
  const problem = (await outbox.problems())[0];
  if (!problem) return dialog.close();
  const { rationale, better_answer: better, reason } = problem.body;
  dialog.querySelector(".problem-reason").textContent = problem.problem.detail;
  dialog.querySelector(".problem-text").value = [rationale, better, problem.order, reason].filter(Boolean).join("\n\n");
  dialog.querySelector('[data-act="dismiss-problem"]').onclick = async () => {
    await outbox.dismiss(problem);
    showProblems(outbox);
  };
  if (!dialog.open) dialog.showModal();
}
