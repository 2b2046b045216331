/* Buttons that copy a text of the page. Where the browser lets no page write to its clipboard there are none. */

for (const button of navigator.clipboard ? document.querySelectorAll("[data-copies]") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const block = button.closest("details");
    const [text, status] = [block.querySelector(button.dataset.copies), block.querySelector('[role="status"]')];
    status.textContent = ""; // so that the second time is said as well
    const isCopied = await navigator.clipboard.writeText(text.textContent).then(() => true, () => false);
    if (isCopied) status.textContent = button.dataset.done;
    else getSelection().selectAllChildren(text); // to be copied by hand
  });
}

/* A link to a call opens it. */
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.matches("details")) target.open = true;
}

addEventListener("hashchange", openTarget);
openTarget();
