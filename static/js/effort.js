/* What an answer took: active time, time to the first action, number of changes.
 *
 * Time is active while the page is seen and something was done on it within the last half minute. Only time on the stage
 * counts at all.
 */

const IDLE_MS = 30_000;

let lastActivity = performance.now(); // to open the page was something

/* Something was done on the page. The effort on the stage ticks first, or the pause before would look active. */
export function noteActivity() {
  lastActivity = performance.now();
}

export class Effort {
  changes = 0;
  #shownMs = 0;
  #activeMs = 0;
  #firstActionMs = null;
  #lastTick = 0;
  #wasSeen = false;

  /* The comparison comes onto the stage, for the first time or again. */
  start() {
    this.#lastTick = performance.now();
    this.#wasSeen = !document.hidden;
  }

  /* Count the time since the last tick, to be called whenever the page is hidden or seen again. Returns whether any of it
   * was active. */
  tick() {
    const now = performance.now();
    const activeUntil = this.#wasSeen ? Math.min(now, lastActivity + IDLE_MS) : 0;
    const activeMs = Math.max(0, activeUntil - this.#lastTick);
    this.#activeMs += activeMs;
    this.#shownMs += now - this.#lastTick;
    this.start();
    return activeMs > 0;
  }

  noteAction() {
    this.tick();
    this.#firstActionMs ??= this.#shownMs;
  }

  /* As an answer says it. */
  get measured() {
    this.tick();
    const first = this.#firstActionMs;
    return { active_ms: Math.round(this.#activeMs), first_action_ms: first && Math.round(first), changes: this.changes };
  }
}
