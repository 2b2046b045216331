/* Words that an annotator marked as good or bad, drawn with the CSS Custom Highlight API: the text stays untouched.
 *
 * A mark is stored by its place in the text as the model wrote it, in characters (code points), whichever view it was
 * made in.
 */

import { announce } from "./announcer.js";
import { say } from "./page.js";

const LABELS = ["good", "bad"];
const RECENT_MS = 3_000;

class Marks {
  #last = null;

  constructor() {
    this.#remember();
    document.addEventListener("selectionchange", () => this.#remember());
  }

  /* Where a tap on a button ends the selection, the words are still those selected a moment ago. */
  #remember() {
    const selection = getSelection();
    const range = selection.rangeCount ? selection.getRangeAt(0) : null;
    if (range && !range.collapsed && viewAround(range)) this.#last = { range: range.cloneRange(), at: performance.now() };
  }

  get #recent() {
    const isRecent = this.#last && performance.now() - this.#last.at < RECENT_MS;
    return isRecent && this.#last.range.startContainer.isConnected ? this.#last.range : null;
  }

  /* `selected`: what was when it was asked for, if anything. */
  add(comparison, label, selected) {
    const range = selected ?? this.#recent;
    const view = range ? viewAround(range) : null;
    const index = view ? comparison.cards.indexOf(view.closest(".completion")) : -1;
    if (index < 0) return announce(say("selectFirst"));
    const raw = written(comparison.cards[index].querySelector(".raw"));
    const place = placeIn(written(view), raw);
    const from = offsetIn(view, range.startContainer, range.startOffset);
    const note = range.toString();
    const start = place(from);
    const end = place(from + written(range.cloneContents()).length - 1) + 1;
    comparison.mark({
      completion: comparison.ids[index],
      start: [...raw.slice(0, start)].length,
      end: [...raw.slice(0, end)].length,
      label,
      note: [...note].slice(0, 1000).join(""),
      range: range.cloneRange(),
    });
    if (!getSelection().isCollapsed) getSelection().removeAllRanges(); // else it may be the caret of a field
    this.#last = null;
    sayOf("marked", note, languageOf(comparison));
    this.show(comparison);
  }

  show(comparison) {
    for (const label of LABELS) {
      const ranges = comparison.spans.filter((span) => span.label === label && span.range).map((span) => span.range);
      if ("highlights" in CSS) CSS.highlights.set(`mark-${label}`, new Highlight(...ranges));
    }
    comparison.cards.forEach((card, index) => {
      const list = card.querySelector(".marks");
      const spans = comparison.spans.filter((span) => span.completion === comparison.ids[index]);
      list.hidden = spans.length === 0;
      list.replaceChildren(...spans.map((span) => this.#item(comparison, span)));
    });
  }

  #item(comparison, span) {
    const item = document.createElement("li");
    item.className = `mark-${span.label}`;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small";
    const lang = languageOf(comparison);
    const sign = Object.assign(document.createElement("span"), { textContent: "×", ariaHidden: "true" });
    button.append(sign, sentence("removeMark", { text: span.note }, lang, "visually-hidden"));
    button.addEventListener("click", () => this.#remove(comparison, span, item));
    const label = LABELS.includes(span.label) ? say(span.label) : span.label; // another's comes from the API
    item.append(sentence("mark", { label, text: span.note }, lang), " ", button);
    return item;
  }

  /* The focus goes on to the next mark of the list, or to the one before, or to the completion. */
  #remove(comparison, span, item) {
    const list = item.parentElement;
    const at = [...list.children].indexOf(item);
    comparison.unmark(span);
    sayOf("unmarked", span.note, languageOf(comparison));
    this.show(comparison);
    const next = list.children[Math.min(at, list.children.length - 1)];
    (next?.querySelector("button") ?? list.closest(".completion")).focus({ preventScroll: true });
  }
}

export const marks = new Marks();

function languageOf(comparison) {
  return comparison.cards[0].querySelector(".text").lang;
}

/* What the page says before and after `text`, which is in a language of its own. */
function around(name, values) {
  return say(name, { ...values, text: "\0" }).split("\0");
}

function sayOf(name, text, lang) {
  const [before, after] = around(name, {});
  announce(before.trim());
  announce(text, lang);
  announce(after.trim());
}

function sentence(name, { text, ...values }, lang, className = "") {
  const [before, after] = around(name, values);
  const words = Object.assign(document.createElement("span"), { textContent: text, lang });
  const whole = Object.assign(document.createElement("span"), { className });
  whole.append(before, words, after);
  return whole;
}

function viewAround(range) {
  const element = range.commonAncestorContainer;
  return (element.nodeType === Node.ELEMENT_NODE ? element : element.parentElement).closest(".completion .text, .completion .raw");
}

function offsetIn(view, node, offset) {
  const before = document.createRange();
  before.setStart(view, 0);
  before.setEnd(node, offset);
  return written(before.cloneContents()).length;
}

/* The text of a node with invisible characters as the model wrote them, and not as the U+200B that stands for one. */
function written(node) {
  const copy = node.cloneNode(true);
  for (const sign of copy.querySelectorAll(".invisible")) {
    const [, code] = sign.textContent.match(/^U\+([0-9A-F]+)$/) ?? [];
    sign.textContent = code ? String.fromCodePoint(parseInt(code, 16)) : "";
  }
  return copy.textContent;
}

/* Where the n-th character of the shown text stands in the raw one: the shown text is the raw one with marks left out,
 * so that walking through both finds each character in turn. */
function placeIn(shown, raw) {
  const places = [];
  let at = 0;
  for (const character of shown) {
    const found = /\s/.test(character) ? -1 : raw.indexOf(character, at);
    if (found >= 0 && found - at < 80) at = found;
    for (let unit = 0; unit < character.length; unit += 1) places.push(Math.min(at + unit, raw.length - 1));
    if (found >= 0) at += character.length;
  }
  return (n) => places[Math.max(0, Math.min(n, places.length - 1))] ?? 0;
}
