/* Ways to read: the text as it was written, the guidelines beside it (guidelines.js). What differs between two: diff.js. */

import { tell } from "./messages.js";
import { $, say } from "./page.js";

export function toggleRaw(card) {
  const isRaw = !card.querySelector(".raw").toggleAttribute("hidden");
  card.querySelector(".text").hidden = isRaw;
  card.querySelector('[data-act="raw"]').setAttribute("aria-pressed", String(isRaw));
}

/* The line of the prompt opens into a copy of the whole, over what one reads: nothing moves. */
export function openPrompts() {
  const fill = ({ target: line }) => {
    if (!line.matches(".to-prompt") || line.querySelector("div")) return;
    const whole = Object.assign(document.createElement("div"), { className: "whole", tabIndex: 0 });
    const parts = line.previousElementSibling.querySelectorAll(":scope > :is(.earlier, .turn)");
    parts.forEach((part) => whole.append(part.cloneNode(true)));
    line.append(whole);
  };
  document.addEventListener("toggle", fill, { capture: true });
}

/* The guidelines of the comparison on the stage: where their link leads, and what their panel shows while open. */
export function offerGuidelines(address) {
  const [link, panel] = [$("guidelines-link"), $("guidelines-panel")];
  link.hidden = !address;
  link.href = address;
  panel.hidden ||= link.hidden;
  if (!panel.hidden) withGuidelines(({ fillPanel }) => fillPanel(panel, link.href));
}

export function toggleGuidelines() {
  return withGuidelines(({ toggle }) => toggle());
}

let guidelines = null; // what shows them, once it was fetched

async function withGuidelines(action) {
  guidelines ??= await import("./guidelines.js").catch(() => null);
  if (guidelines) action(guidelines);
  else tell(say("noGuidelines"));
}
