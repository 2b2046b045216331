/* Keeping leases while somebody is at work on them.
 *
 * A third of the way through its lease a comparison is due. It is renewed if the page is seen and something was done
 * on it since the lease began anew: a tab that was left renews at most once more, and then its leases end.
 * Date.now(), since performance.now() may stand still while the machine sleeps.
 */

import { ask } from "./server.js";

const DUE = 1 / 3;
const STALE = 9 / 10;
const RETRY_MS = 20_000;

export class Renewal {
  #since = new WeakMap(); // comparison → when its lease began or began anew
  #lastActivity = Date.now();
  #notBefore = 0;

  constructor(url) {
    this.url = url;
  }

  lent(comparison) {
    this.#since.set(comparison, Date.now());
  }

  noteActivity() {
    this.#lastActivity = Date.now();
  }

  get secondsIdle() {
    return (Date.now() - this.#lastActivity) / 1000;
  }

  /* Its lease is about to end: not one to begin with. */
  isStale(comparison) {
    return this.#share(comparison) > STALE;
  }

  /* Renew what is due among this tab's comparisons. Returns those that are this person's no longer. */
  async renew(comparisons) {
    const isDue = (one) => this.#share(one) > DUE && this.#lastActivity > this.#since.get(one);
    return document.hidden || !comparisons.some(isDue) ? [] : this.renewNow(comparisons);
  }

  /* The same, due or not. */
  async renewNow(comparisons) {
    if (Date.now() < this.#notBefore || !comparisons.length) return [];
    this.#notBefore = Infinity; // one at a time
    const lost = await this.lost(comparisons.map((one) => one.id));
    this.#notBefore = lost ? 0 : Date.now() + RETRY_MS;
    if (!lost) return [];
    for (const one of comparisons) if (!lost.includes(one.id)) this.lent(one);
    return comparisons.filter((one) => lost.includes(one.id));
  }

  /* Renew the leases of these assignments. Returns those that are this person's no longer; null where nobody said. */
  async lost(ids) {
    const response = await ask(this.url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ holding: ids }),
      signal: AbortSignal.timeout(15_000),
    }).catch(() => null);
    const renewed = response?.ok ? (await response.json().catch(() => ({}))).renewed : null;
    return renewed ? ids.filter((id) => !(id in renewed)) : null;
  }

  #share(comparison) {
    return (Date.now() - this.#since.get(comparison)) / (Number(comparison.form.dataset.seconds) * 1000);
  }
}
