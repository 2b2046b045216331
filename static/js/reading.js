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

/* The guidelines of the comparison on the stage: where their link leads, and what their panel shows while open. */
export function offerGuidelines(address) {
  const [link, panel] = [$("guidelines-link"), $("guidelines-panel")];
  link.hidden = !address;
  link.href = address;
  panel.hidden ||= link.hidden;
  if (!panel.hidden) fillPanel(panel, link.href);
}

export function toggleGuidelines() {
  const [link, panel] = [$("guidelines-link"), $("guidelines-panel")];
  panel.hidden = !panel.hidden || link.hidden;
  if (panel.hidden) return link.focus();
  panel.focus();
  fillPanel(panel, link.href);
}

async function fillPanel(panel, url) {
  if (panel.dataset.url === url) return;
  panel.dataset.url = url;
  const text = panel.querySelector(".text");
  text.replaceChildren(); // those of another pool, or another version
  const response = await fetch(url, AS_FRAGMENT).catch(() => null);
  const content = response?.ok ? fragment(await response.text()) : say("noGuidelines");
  if (panel.dataset.url !== url) return; // another comparison has come meanwhile
  if (!response?.ok) panel.dataset.url = ""; // asked for again when the panel is opened again
  text.replaceChildren(content);
}
