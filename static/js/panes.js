/* Long completions in panes of the window's height, which scroll as one: each by the same share of its own length.
 *
 * On or off is remembered in a cookie: the server draws the page as it will stay, and nothing jumps. The styles decide
 * where panes make sense; where texts do not stand beside each other there are none, whatever is remembered.
 */

const REMEMBERED = "whetstone_panes";
const ONE_YEAR_SECONDS = 31_536_000;
const STEP = 0.85; // of a pane's height
const ITS_OWN = "button, a, summary, input, textarea, select, dialog, .side-panel, [data-pane]";

export class Panes {
  #followed = new WeakMap(); // pane → where it was put, so that its own scroll event moves nobody
  #sizes = new ResizeObserver(() => this.#attend());
  #texts = [];

  /* `title`: what the button says while all texts are short. */
  constructor(root, button, title) {
    this.root = root;
    this.button = button;
    this.title = title;
    addEventListener("resize", () => this.#offer());
    button?.addEventListener("click", () => this.toggle());
    document.addEventListener("scroll", (event) => this.#scrolled(event.target), { capture: true, passive: true });
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  get isOn() {
    return this.root.classList.contains("has-panes");
  }

  toggle() {
    const isOn = this.root.classList.toggle("has-panes");
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${REMEMBERED}=${isOn ? 1 : ""}; Max-Age=${isOn ? ONE_YEAR_SECONDS : 0}; Path=/; SameSite=Lax${secure}`;
    this.button?.setAttribute("aria-pressed", String(isOn));
    this.#attend();
    this.#offer();
    return isOn;
  }

  show(comparison) {
    this.#sizes.disconnect();
    this.#texts = comparison.cards.flatMap((card) => [...card.querySelectorAll(":scope > .text, :scope > .raw")]);
    this.#texts.forEach((text) => this.#sizes.observe(text));
    this.#offer();
  }

  /* The button is for texts that a pane would cut; what is on can always be turned off. */
  #offer() {
    if (!this.button) return;
    const { isOn } = this;
    this.root.classList.add("has-panes");
    const isUseful = this.#texts.some(isLong);
    this.root.classList.toggle("has-panes", isOn);
    this.button.disabled = !isUseful && !isOn;
    this.button.title = this.button.disabled ? this.title : "";
  }

  /* A text that scrolls is a pane: reached with Tab, named by its completion. */
  #attend() {
    for (const text of this.#texts) {
      const isPane = this.isOn && isLong(text);
      text.toggleAttribute("data-pane", isPane);
      if (!isPane) for (const name of ["tabindex", "role", "aria-labelledby"]) text.removeAttribute(name);
      else {
        text.tabIndex = 0;
        text.setAttribute("role", "group");
        text.setAttribute("aria-labelledby", text.closest(".completion").getAttribute("aria-labelledby"));
      }
    }
  }

  #panes() {
    return this.#texts.filter((text) => text.hasAttribute("data-pane") && !text.hidden);
  }

  #scrolled(pane) {
    if (!this.isOn || !this.#texts.includes(pane)) return;
    const isEcho = Math.abs((this.#followed.get(pane) ?? -9) - pane.scrollTop) < 1;
    this.#followed.delete(pane);
    if (isEcho || range(pane) <= 0) return;
    const share = pane.scrollTop / range(pane);
    for (const other of this.#panes()) {
      if (other === pane) continue;
      const before = other.scrollTop;
      other.scrollTo({ top: share * range(other), behavior: "instant" });
      if (other.scrollTop !== before) this.#followed.set(other, other.scrollTop);
    }
  }

  /* Space and Page Down bring the completions into sight, and then move all panes; where they end, the page goes on. */
  #pressed(event) {
    const direction = { PageDown: 1, PageUp: -1, " ": event.shiftKey ? -1 : 1 }[event.key];
    if (!direction || event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.closest(ITS_OWN) || document.querySelector("dialog[open]")) return;
    if (this.#page(direction)) event.preventDefault();
  }

  #page(direction) {
    const panes = this.#panes();
    if (!panes.length) return false;
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
}

/* Where there are panes: whether this text is longer than one. */
function isLong(text) {
  return getComputedStyle(text).overflowY === "auto" && range(text) > 0;
}

function range(pane) {
  return pane.scrollHeight - pane.clientHeight;
}
