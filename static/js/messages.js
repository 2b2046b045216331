/* How the page tells something: for a moment in the bar, or as a notice for as long as it is so. */

import { announce } from "./announcer.js";
import { $ } from "./page.js";

const TOAST_MS = 6_000;

const line = $("toast");
let timer = 0;

/* Shown and said. */
export function tell(text) {
  announce(text);
  toast(text);
}

/* A line of the bar, which grows: nothing lies under it, and the end of the page stays in sight above it. */
export function toast(text) {
  const root = document.scrollingElement;
  const isAtTheEnd = root.scrollTop + root.clientHeight >= root.scrollHeight - 1;
  line.textContent = text;
  line.hidden = false;
  ($("stage").querySelector(".bar") ?? $("stage")).prepend(line);
  if (isAtTheEnd) root.scrollTo({ top: root.scrollHeight, behavior: "instant" });
  clearTimeout(timer);
  timer = setTimeout(hideToast, TOAST_MS);
}

export function hideToast() {
  line.hidden = true;
}

export function notice(text, way = null) {
  const element = $("notice");
  if (element.firstChild?.textContent === text) return; // said once, not at every attempt
  element.hidden = !text;
  element.replaceChildren(text);
  if (way) element.append(" ", way);
}
