/* What an answer took: active time, time to the first action, number of changes.
 *
 * Time is active while the page is seen and something was done on it within the last half minute. Only time on the
 * stage counts at all.
 */

const IDLE_MS = 30_000;

let lastActivity = performance.now(); // to open the page was something

/* Something was done on the page. The effort on the stage ticks first, or the pause before would look active. */
export function noteActivity() {
  lastActivity = performance.now();
}

export class Effort {
  #counts = { shownMs: 0, activeMs: 0, firstActionMs: null, changes: 0 };
  #lastTick = null;
  #wasSeen = false;

  /* Whether the comparison was never on the stage of this page. */
  get isNew() {
    return this.#lastTick === null;
  }

  /* The comparison comes onto the stage, for the first time or again. */
  start() {
    this.#lastTick = performance.now();
    this.#wasSeen = !document.hidden;
  }

  /* Count the time since the last tick, to be called whenever the page is hidden or seen again. Returns whether any of
   * it was active. */
  tick() {
    const now = performance.now();
    const activeUntil = this.#wasSeen ? Math.min(now, lastActivity + IDLE_MS) : 0;
    const activeMs = Math.max(0, activeUntil - this.#lastTick);
    this.#counts.activeMs += activeMs;
    this.#counts.shownMs += now - this.#lastTick;
    this.start();
    return activeMs > 0;
  }

  noteAction() {
    this.tick();
    this.#counts.firstActionMs ??= this.#counts.shownMs;
  }

  noteChange() {
    this.#counts.changes += 1;
  }

  /* As an answer says it. */
  get measured() {
    const { activeMs, firstActionMs: first, changes } = this.counts;
    return { active_ms: Math.round(activeMs), first_action_ms: first && Math.round(first), changes };
  }

  /* To be gone on with, from the counts of an earlier page. */
  get counts() {
    this.tick();
    return { ...this.#counts };
  }

  goOnFrom(counts) {
    Object.assign(this.#counts, counts);
  }
}
