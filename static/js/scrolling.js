/* Panes that scroll as one: each by the same share of its own length. */

const STEP = 0.85; // of a pane's height
const ITS_OWN = "button, a, summary, input, textarea, select, dialog, .side-panel, [data-pane]";

const followed = new WeakMap(); // pane → where it was put, so that its own scroll event moves nobody

/* `panes()`: those there are now. */
export function scrollTogether(panes) {
  document.addEventListener("scroll", (event) => scrolled(event.target, panes()), { capture: true, passive: true });
  document.addEventListener("keydown", (event) => pressed(event, panes()));
}

function scrolled(pane, panes) {
  if (!panes.includes(pane)) return;
  const isEcho = Math.abs((followed.get(pane) ?? -9) - pane.scrollTop) < 1;
  followed.delete(pane);
  if (isEcho || range(pane) <= 0) return;
  const share = pane.scrollTop / range(pane);
  for (const other of panes) {
    if (other === pane) continue;
    const before = other.scrollTop;
    other.scrollTo({ top: share * range(other), behavior: "instant" });
    if (other.scrollTop !== before) followed.set(other, other.scrollTop);
  }
}

/* Space and Page Down bring the completions into sight, and then move all panes; where they end, the page goes on. */
function pressed(event, panes) {
  const direction = { PageDown: 1, PageUp: -1, " ": event.shiftKey ? -1 : 1 }[event.key];
  if (!direction || event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest(ITS_OWN) || document.querySelector("dialog[open]") || !panes.length) return;
  if (turnPage(direction, panes)) event.preventDefault();
}

function turnPage(direction, panes) {
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
  const top = panes[0].closest(".completions").getBoundingClientRect().top;
  const root = document.scrollingElement;
  const isAtTheEnd = root.scrollTop + root.clientHeight >= root.scrollHeight - 1;
  if (direction > 0 && top > 16 && !isAtTheEnd) {
    root.scrollBy({ top: top - 8, behavior });
    return true;
  }
  const longest = panes.reduce((a, b) => (range(b) > range(a) ? b : a));
  const isDone = direction > 0 ? longest.scrollTop >= range(longest) - 1 : longest.scrollTop <= 0;
  if (isDone) return false;
  longest.scrollBy({ top: direction * STEP * longest.clientHeight, behavior });
  return true;
}

/* How far a pane can be scrolled. */
function range(pane) {
  return pane.scrollHeight - pane.clientHeight;
}
