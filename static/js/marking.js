/* Marking words. What does it (marks.js) is fetched with the first words that are selected, or with the first mark. */

import { tell } from "./messages.js";
import { say } from "./page.js";

let fetched = null;

function marks() {
  return (fetched ??= import("./marks.js").then((module) => module.marks, () => (fetched = null))); // the next time
}

document.addEventListener("selectionchange", () => {
  const { isCollapsed, anchorNode } = getSelection();
  if (!isCollapsed && anchorNode.parentElement?.closest("[data-spans='1'] .completion")) marks();
});

// A button for the selected words takes the selection with it, unless it never gets the press.
for (const press of ["pointerdown", "mousedown"]) {
  document.addEventListener(press, (event) => event.target.closest(".marking button") && event.preventDefault());
}

/* Draw the marks of the comparison that has come onto the stage, and no longer those of the one before. */
export async function showMarks(comparison) {
  const mayHaveMarks = comparison.form.dataset.spans && fetched;
  if (!mayHaveMarks && !comparison.spans.length) return;
  const fetchedMarks = await marks();
  if (comparison.form.isConnected) fetchedMarks?.show(comparison); // not answered meanwhile
}

/* Mark the selected words as `label`, where the pool asks for that. */
export async function markWords(comparison, label) {
  if (!comparison.form.dataset.spans) return;
  const range = getSelection().isCollapsed ? null : getSelection().getRangeAt(0).cloneRange(); // before a key takes it
  const fetchedMarks = await marks();
  if (!comparison.form.isConnected) return;
  if (fetchedMarks) fetchedMarks.add(comparison, label, range);
  else tell(say("noMarks"));
}
