/* Long completions in panes of the window's height, which scroll as one (scrolling.js).
 *
 * On or off is remembered in a cookie: the server draws the page as it will stay, and nothing jumps. The styles decide
 * where panes make sense; where texts do not stand beside each other there are none, whatever is remembered.
 */

import { tell } from "./messages.js";
import { say } from "./page.js";

const REMEMBERED = "whetstone_panes";
const ONE_YEAR_SECONDS = 31_536_000;

export class Panes {
  #scrolling = null; // what moves them together, fetched once there are some
  #sizes = new ResizeObserver(() => this.#attend());
  #texts = [];

  constructor(root, button) {
    this.root = root;
    this.button = button;
    addEventListener("resize", () => this.#offer());
    button?.addEventListener("click", () => this.toggle());
  }

  get isOn() {
    return this.root.classList.contains("has-panes");
  }

  /* Turned on they are only where a text would be one; what is on can always be turned off. */
  toggle() {
    if (!this.#isUseful()) return tell(say("shortTexts"));
    const isOn = this.root.classList.toggle("has-panes");
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${REMEMBERED}=${isOn ? 1 : ""}; Max-Age=${isOn ? ONE_YEAR_SECONDS : 0}; Path=/; SameSite=Lax${secure}`;
    this.button?.setAttribute("aria-pressed", String(isOn));
    this.#attend();
    this.#offer();
    return true;
  }

  show(comparison) {
    this.#sizes.disconnect();
    this.#texts = comparison.cards.flatMap((card) => [...card.querySelectorAll(":scope > .text, :scope > .raw")]);
    this.#texts.forEach((text) => this.#sizes.observe(text));
    this.#offer();
  }

  #isUseful() {
    if (this.isOn) return true;
    const top = scrollY;
    this.root.classList.add("has-panes");
    const isUseful = this.#texts.some(isLong);
    this.root.classList.remove("has-panes");
    if (scrollY !== top) scrollTo({ top, behavior: "instant" }); // the page was lower for a moment
    return isUseful;
  }

  #offer() {
    this.button?.setAttribute("aria-disabled", String(!this.#isUseful()));
  }

  /* A text that scrolls is a pane, once it moves with the others: reached with Tab, named by its completion. */
  async #attend() {
    // Where the script cannot be fetched, each scrolls by itself until the next time.
    if (this.isOn) await (this.#scrolling ??= this.#scrollTogether().catch(() => (this.#scrolling = null)));
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

  async #scrollTogether() {
    const { scrollTogether } = await import("./scrolling.js");
    scrollTogether(() => this.#texts.filter((text) => text.hasAttribute("data-pane") && !text.hidden));
  }
}

/* Where there are panes: whether this text is longer than one. */
function isLong(text) {
  return getComputedStyle(text).overflowY === "auto" && text.scrollHeight > text.clientHeight;
}
