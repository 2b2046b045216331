/* Ways to read: the text as it was written, what differs between two completions, the guidelines beside them. */

import { fragment, AS_FRAGMENT } from "./fragments.js";
import { $, say } from "./page.js";

export function toggleRaw(card) {
  const isRaw = !card.querySelector(".raw").toggleAttribute("hidden");
  card.querySelector(".text").hidden = isRaw;
  card.querySelector('[data-act="raw"]').setAttribute("aria-pressed", String(isRaw));
}

/* Open the dialog that shows what the second of two completions has that the first has not, and the other way round. */
export async function showDifferences(comparison, first, second, byCharacter = null) {
  const { showDiff } = await import("./diff.js");
  const dialog = $("diff-dialog");
  const rawOf = (index) => comparison.cards[index].querySelector(".raw").textContent;
  const unit = dialog.querySelector(".diff-unit");
  const isByCharacter = byCharacter ?? unit.getAttribute("aria-pressed") === "true"; // as the time before
  unit.onclick = () => showDifferences(comparison, first, second, !isByCharacter);
  const kind = showDiff(dialog.querySelector(".diff-text"), rawOf(first), rawOf(second), isByCharacter);
  unit.setAttribute("aria-pressed", String(isByCharacter));
  const notes = { same: "same", lines: "diffTooLong" };
  dialog.querySelector(".diff-note").textContent = kind in notes ? say(notes[kind]) : "";
  dialog.querySelector(".diff-choice").replaceChildren(
    ...comparison.letters.flatMap((letter, index) => {
      if (index === first) return [];
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${comparison.letters[first]} → ${letter}`;
      button.setAttribute("aria-pressed", String(index === second));
      button.addEventListener("click", () => showDifferences(comparison, first, index));
      return [button];
    }),
  );
  if (!dialog.open) dialog.showModal();
}

export async function toggleGuidelines() {
  const panel = $("guidelines-panel");
  panel.hidden = !panel.hidden;
  if (panel.hidden) return $("guidelines-link").focus();
  panel.focus();
  const url = $("guidelines-link").href;
  if (panel.dataset.url === url) return;
  const response = await fetch(url, AS_FRAGMENT).catch(() => null);
  panel.dataset.url = response?.ok ? url : "";
  panel.querySelector(".text").replaceChildren(response?.ok ? fragment(await response.text()) : say("noGuidelines"));
}
