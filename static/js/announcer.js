/* What a screen reader is told, in a polite live region: what one key says is one line, in the order it was said.
 *
 * A line goes when it was read. Were it left, a screen reader would read it again whenever a dialog closes, since all
 * behind a dialog leaves its tree meanwhile and comes back as if it were new. A dialog that tells something has a live
 * region of its own for the same reason.
 */

const STAYS_MS = 3_000;
const MOST_CHARACTERS = 5_000;

let line = null; // what is being said now

export function announce(text, lang = "") {
  if (!text) return;
  if (!line) {
    line = document.createElement("p");
    queueMicrotask(speak);
  }
  const part = document.createElement("span");
  part.textContent = text;
  if (lang) part.lang = lang;
  line.append(line.firstChild ? " " : "", part);
}

function speak() {
  const spoken = line;
  line = null;
  (document.querySelector("dialog[open] .announcer") ?? document.getElementById("announcer")).append(spoken);
  setTimeout(() => spoken.remove(), STAYS_MS);
}

/* A text of the page in its own language; `goesOn` is said after the beginning of a very long one. */
export function readOut(element, goesOn) {
  const text = element.innerText.trim();
  announce(text.slice(0, MOST_CHARACTERS), element.lang);
  if (text.length > MOST_CHARACTERS) announce(goesOn);
}
