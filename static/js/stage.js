/* The stage: the comparison that is judged now, or a line that says why there is none.
 *
 * Events: "shown" with each comparison that comes onto it; "empty" when such a line does.
 */

import { announce, readOut } from "./announcer.js";
import { hideToast } from "./messages.js";
import { $, say } from "./page.js";

export class Stage extends EventTarget {
  element = $("stage");
  back = this.element.dataset.back; // on the page that corrects one answer: where it leads when that is done
  onlyOne = Boolean(this.back);
  current = null;
  shownAt = 0; // by performance.now()
  isPlain = false; // where nothing can be kept the form sends itself, as it does without a script
  awaited = null; // the comparison whose answer has to arrive first: in training, for its feedback, and in a correction

  get isFree() {
    return !this.current && !this.awaited;
  }

  /* The comparison that the server drew, before there was a script. */
  adopt(comparison) {
    this.current = comparison;
    this.shownAt = performance.now();
    this.dispatchEvent(new CustomEvent("shown", { detail: comparison }));
  }

  show(comparison) {
    hideToast(); // it spoke of the one before, as these dialogs do
    for (const dialog of document.querySelectorAll("dialog[data-of-comparison][open]")) dialog.close();
    this.element.replaceChildren(comparison.form);
    scrollTo(0, 0);
    this.element.querySelector("h1").focus({ preventScroll: true });
    this.adopt(comparison);
    announce(say("next"));
    readOut(comparison.form.querySelector(".prompt > .turn:last-of-type .text"), say("goesOn"));
  }

  clear() {
    this.current = null;
    this.element.replaceChildren();
  }

  /* The server's words for having none, which stay until there is one or the reason is another. */
  showNone(words) {
    const why = (node) => node.querySelector("[data-why]")?.textContent;
    if (why(this.element) !== why(words)) this.#showInstead(words);
  }

  showUnreachable() {
    if (!this.element.querySelector(".nothing")) this.#showInstead($("unreachable").content.cloneNode(true));
  }

  #showInstead(words) {
    if (!this.isFree) return;
    this.element.replaceChildren(words);
    const parts = [...this.element.querySelectorAll("h1, [data-why] p, .nothing > p:first-child")];
    if (document.activeElement === document.body) parts.shift()?.focus(); // and is read for it
    for (const part of parts) announce(part.textContent);
    this.dispatchEvent(new Event("empty"));
  }
}

/* The line for beginners says how this comparison is answered, until the first answer. */
export function showBeginning(comparison) {
  const kind = comparison.isPair ? "pair" : comparison.tiesAllowed ? "ties" : "strict";
  const line = $("beginning");
  if (line) line.hidden = false;
  for (const sentence of line?.querySelectorAll("[data-for]") ?? []) sentence.hidden = sentence.dataset.for !== kind;
}
