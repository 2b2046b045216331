/* Buttons that copy a text of the page. Where the browser lets no page write to its clipboard there are none. */

for (const button of navigator.clipboard ? document.querySelectorAll("[data-copies]") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const block = button.closest("details");
    await navigator.clipboard.writeText(block.querySelector(button.dataset.copies).textContent);
    block.querySelector('[role="status"]').textContent = button.dataset.done;
  });
}

/* A link to a call opens it. */
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.matches("details")) target.open = true;
}

addEventListener("hashchange", openTarget);
openTarget();
