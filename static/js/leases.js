/* Which comparisons this browser has.
 *
 * Each tab holds a Web Lock for every comparison it shows or has fetched ahead. A tab that closes or crashes lets go of
 * them by itself, and the server hands those comparisons out again: they are missing from what `held` tells it.
 */

import { locks } from "./page.js";

const LOCK = "whetstone-comparison-";

export class Leases {
  #releases = new Map();
  #answered = new Set(); // since the page was loaded

  constructor(outbox) {
    this.outbox = outbox;
    outbox.addEventListener("sent", ({ detail: { kind, assignment } }) => kind === "skip" || this.#answered.add(assignment));
  }

  /* Whether the comparison is this tab's; false where another tab has it. */
  claim(id) {
    return new Promise((resolve) => {
      locks.request(LOCK + id, { ifAvailable: true }, (lock) => {
        resolve(Boolean(lock));
        return lock && new Promise((release) => this.#releases.set(id, release));
      });
    });
  }

  letGo(id) {
    this.#releases.get(id)?.();
    this.#releases.delete(id);
  }

  /* Whether an answer to it waits in the outbox, or was sent while it was on its way here. */
  async isAnswered(id) {
    const waiting = await this.outbox.waiting();
    return this.#answered.has(id) || waiting.some((entry) => entry.assignment === id);
  }

  /* Every assignment in any tab, and those whose answers wait in the outbox. */
  async held() {
    const ids = new Set(this.#releases.keys());
    for (const { name } of (await locks.query()).held) {
      if (name.startsWith(LOCK)) ids.add(Number(name.slice(LOCK.length)));
    }
    for (const entry of await this.outbox.all()) ids.add(entry.assignment);
    return ids;
  }
}
