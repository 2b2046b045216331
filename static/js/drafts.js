/* Answers and corrections that were begun: a reload or a crash in the middle of one loses no rank and no word of it,
 * and what it took so far is counted on.
 *
 * They lie in this browser (localStorage) by person and assignment until the answer is in the outbox, or for a week.
 */

const PREFIX = "whetstone-draft-";
const WEEK_MS = 7 * 24 * 3600 * 1000;
const PAUSE_MS = 400;

export class Drafts {
  #timer = 0;

  constructor(user, comparison) {
    this.prefix = `${PREFIX}${user}-`;
    this.comparison = comparison;
    for (const type of ["input", "change", "keydown", "pointerup"]) {
      document.addEventListener(type, () => (this.#timer ||= setTimeout(() => this.#save(), PAUSE_MS)), { passive: true });
    }
    addEventListener("pagehide", () => this.#save());
    for (const [key, draft] of stored()) {
      if (!(Date.now() - draft?.at < WEEK_MS)) attempt(() => localStorage.removeItem(key));
    }
  }

  drop({ id }) {
    attempt(() => localStorage.removeItem(this.prefix + id));
  }

  /* Fill in what was begun on a comparison that has just come. Returns whether there was anything. */
  restore(comparison) {
    const draft = read(this.prefix + comparison.id);
    if (!comparison.effort.isNew || draft?.mode !== comparison.mode) return false;
    comparison.restore(draft);
    return draft.isBegun;
  }

  /* Answers that were begun, each with its assignment. */
  get begunAnswers() {
    const own = [...stored()].filter(([key, draft]) => key.startsWith(this.prefix) && draft?.mode === "ranking");
    const begun = own.filter(([, draft]) => draft.isBegun);
    return begun.map(([key, { fields }]) => ({ id: Number(key.slice(this.prefix.length)), fields }));
  }

  /* The assignment whose correction was begun on this address last, or null. */
  get begunCorrection() {
    const isOne = ([key, draft]) => key.startsWith(this.prefix) && draft?.mode === "revision" && draft.isBegun;
    const found = [...stored()].filter((one) => isOne(one) && one[1].path === location.pathname);
    const [last] = found.sort(([, one], [, other]) => other.at - one.at);
    return last ? Number(last[0].slice(this.prefix.length)) : null;
  }

  #save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const comparison = this.comparison();
    if (!comparison) return;
    const draft = { ...comparison.draft, path: location.pathname, at: Date.now() };
    attempt(() => localStorage.setItem(this.prefix + comparison.id, JSON.stringify(draft)));
  }
}

function* stored() {
  for (const key of attempt(() => Object.keys(localStorage)) ?? []) {
    if (key.startsWith(PREFIX)) yield [key, read(key)];
  }
}

export function read(key) {
  return attempt(() => JSON.parse(localStorage.getItem(key)));
}

/* Storage can be full or forbidden: then nothing is kept, and all else works. */
export function attempt(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
