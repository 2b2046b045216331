/* What differs between two texts: by word (in Chinese and its kin by character), by character, by line where huge.
 *
 * Myers' O(ND) algorithm (1986) over tokens, after what both begin and end with is set aside. Fetched when asked for.
 */

import { $, say } from "./page.js";

const MOST_EDITS = 1_000;

function characters(text) {
  if (!("Segmenter" in Intl)) return [...text];
  return [...new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(text)].map((part) => part.segment);
}

function tokens(text) {
  if (!("Segmenter" in Intl)) return text.match(/[\p{Script=Han}]|[\p{L}\p{N}]+|\s+|[^\p{L}\p{N}\s]/gu) ?? [];
  const words = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)].map((part) => part.segment);
  return words.flatMap((word) => (/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u.test(word) ? [...word] : [word]));
}

/* [["same" | "del" | "ins", text], …], or null where more than MOST_EDITS tokens differ. */
function diff(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  const most = Math.min(before.length, after.length) - start;
  while (end < most && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const middle = myers(before.slice(start, before.length - end), after.slice(start, after.length - end));
  if (middle === null) return null;
  const whole = [
    ...before.slice(0, start).map((token) => ["same", token]),
    ...middle,
    ...before.slice(before.length - end).map((token) => ["same", token]),
  ];
  const joined = [];
  for (const [kind, token] of whole) {
    if (joined.at(-1)?.[0] === kind) joined.at(-1)[1] += token;
    else joined.push([kind, token]);
  }
  return joined;
}

function myers(a, b) {
  const furthest = new Map([[1, 0]]);
  const trace = [];
  const limit = Math.min(a.length + b.length, MOST_EDITS);
  for (let edits = 0; edits <= limit; edits += 1) {
    trace.push(new Map(furthest));
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && furthest.get(k - 1) < furthest.get(k + 1));
      let x = down ? furthest.get(k + 1) : furthest.get(k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      furthest.set(k, x);
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a, b);
    }
  }
  return a.length || b.length ? null : [];
}

function walkBack(trace, a, b) {
  const path = [];
  let [x, y] = [a.length, b.length];
  for (let edits = trace.length - 1; edits >= 0; edits -= 1) {
    const furthest = trace[edits];
    const k = x - y;
    const down = k === -edits || (k !== edits && furthest.get(k - 1) < furthest.get(k + 1));
    const fromX = edits ? furthest.get(down ? k + 1 : k - 1) : 0;
    const fromY = edits ? fromX - (down ? k + 1 : k - 1) : 0;
    while (x > fromX && y > fromY) path.push(["same", a[(y -= 1, x -= 1)]]);
    if (edits) path.push(down ? ["ins", b[(y -= 1)]] : ["del", a[(x -= 1)]]);
  }
  return path.reverse();
}

/* Open the dialog that shows what the second of two completions has that the first has not, and the other way round. */
export function showDifferences(comparison, first, second, byCharacter = null) {
  const dialog = $("diff-dialog");
  const rawOf = (index) => comparison.cards[index].querySelector(".raw").textContent;
  const unit = dialog.querySelector(".diff-unit");
  const isByCharacter = byCharacter ?? unit.getAttribute("aria-pressed") === "true"; // as the time before
  unit.onclick = () => showDifferences(comparison, first, second, !isByCharacter);
  dialog.querySelector(".diff-text").lang = comparison.cards[first].querySelector(".text").lang;
  const note = showDiff(dialog.querySelector(".diff-text"), rawOf(first), rawOf(second), isByCharacter);
  unit.setAttribute("aria-pressed", String(isByCharacter));
  const pair = (index) => `${comparison.letters[first]} → ${comparison.letters[index]}`;
  dialog.querySelector(".diff-note").textContent = `${pair(second)} · ${note}`; // said, as it is a status
  const choice = dialog.querySelector(".diff-choice");
  if (!dialog.open) choice.replaceChildren(...choices(comparison, first, pair)); // later they stay: one has the focus
  for (const button of choice.children) button.setAttribute("aria-pressed", String(button.textContent === pair(second)));
  if (!dialog.open) dialog.showModal();
}

function choices(comparison, first, pair) {
  const others = [...comparison.letters.keys()].filter((index) => index !== first);
  return others.map((index) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: pair(index) });
    button.addEventListener("click", () => showDifferences(comparison, first, index));
    return button;
  });
}

/* Fill `element`; returns what there is to say of it. */
function showDiff(element, before, after, isByCharacter = false) {
  if (before === after) {
    element.textContent = before;
    return say("same");
  }
  const split = isByCharacter ? characters : tokens;
  let parts = before.length + after.length < 60_000 ? diff(split(before), split(after)) : null;
  const isByLine = parts === null;
  if (isByLine) {
    const lines = (text) => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
    parts = diff(lines(before), lines(after)) ?? [["del", before], ["ins", after]];
  }
  element.replaceChildren(
    ...parts.map(([type, text]) => {
      if (type === "same") return document.createTextNode(text);
      const mark = document.createElement(type);
      mark.textContent = text;
      return mark;
    }),
  );
  return isByLine ? say("diffTooLong") : say("differences", { n: places(parts) });
}

/* How many: words in the place of others are one. */
function places(parts) {
  return parts.filter(([type], at) => type !== "same" && (at === 0 || parts[at - 1][0] === "same")).length;
}
