/* Answers that were begun: a reload or a crash in the middle of one loses no rank and no word of it.
 *
 * They lie in this browser (localStorage) by person and assignment until the answer is in the outbox, or for a week.
 */

const PREFIX = "whetstone-draft-";
const WEEK_MS = 7 * 24 * 3600 * 1000;
const PAUSE_MS = 400;

export class Drafts {
  #timer = 0;
  #written = "";

  constructor(user, comparison) {
    this.prefix = `${PREFIX}${user}-`;
    this.comparison = comparison;
    for (const type of ["input", "change", "keydown", "pointerup"]) {
      document.addEventListener(type, () => (this.#timer ||= setTimeout(() => this.#save(), PAUSE_MS)), { passive: true });
    }
    addEventListener("pagehide", () => this.#save());
    this.#forgetOldOnes();
  }

  drop(comparison) {
    attempt(() => localStorage.removeItem(this.prefix + comparison.id));
  }

  /* Fill in what was begun on a comparison that nobody touched since it came. Returns whether there was anything. */
  restore(comparison) {
    if (comparison.mode !== "ranking" || comparison.draft) return false;
    const text = attempt(() => localStorage.getItem(this.prefix + comparison.id));
    const draft = text && attempt(() => JSON.parse(text));
    if (draft) comparison.restore(draft);
    return Boolean(draft);
  }

  #save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const comparison = this.comparison();
    if (comparison?.mode !== "ranking") return;
    const { draft } = comparison;
    const text = JSON.stringify(draft);
    if (this.#written === comparison.id + text) return;
    this.#written = comparison.id + text;
    if (!draft) this.drop(comparison);
    else attempt(() => localStorage.setItem(this.prefix + comparison.id, JSON.stringify({ ...draft, at: Date.now() })));
  }

  #forgetOldOnes() {
    for (const key of attempt(() => Object.keys(localStorage)) ?? []) {
      if (!key.startsWith(PREFIX)) continue;
      const draft = attempt(() => JSON.parse(localStorage.getItem(key)));
      if (!(Date.now() - draft?.at < WEEK_MS)) attempt(() => localStorage.removeItem(key));
    }
  }
}

/* Storage can be full or forbidden: then there are no drafts, and all else works. */
function attempt(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
