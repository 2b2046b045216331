/* The next comparisons, fetched before they are wanted.
 *
 * Events: "come" with each that came; where none did, "none" with the server's words for that, "unreachable",
 * "signed out" or "forbidden". Then it is tried again by and by.
 */

import { Comparison } from "./comparison.js";
import { fragment } from "./fragments.js";
import { page } from "./page.js";
import { ask } from "./server.js";

const SHORTEST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 15_000;

export class Ahead extends EventTarget {
  #ready = [];
  #isFetching = false;
  #pauseMs = 0;
  #timer = 0;

  /* `count`: how many are to lie ready. */
  constructor(leases, renewal, count) {
    super();
    this.leases = leases;
    this.renewal = renewal;
    this.count = count;
    addEventListener("online", () => this.fill());
    document.addEventListener("visibilitychange", () => document.hidden || this.fill());
  }

  get comparisons() {
    return [...this.#ready];
  }

  async fill() {
    if (this.#isFetching) return;
    this.#isFetching = true;
    try {
      while (this.#ready.length < this.count) {
        const form = await this.#fetch();
        if (!form) return this.#fillLater();
        this.#pauseMs = 0;
        await this.#add(new Comparison(form));
      }
    } finally {
      this.#isFetching = false;
    }
  }

  /* The next one, if there is any. One whose lease is about to end is let go: the server hands it back renewed. */
  take() {
    let next = this.#ready.shift();
    while (next?.mode === "ranking" && this.renewal.isStale(next)) {
      this.leases.letGo(next.id);
      next = this.#ready.shift();
    }
    return next ?? null;
  }

  putBack(comparison) {
    this.#ready.unshift(comparison);
  }

  drop(comparison) {
    this.#ready = this.#ready.filter((one) => one !== comparison);
    this.leases.letGo(comparison.id);
  }

  async #add(comparison) {
    if (await this.leases.isAnswered(comparison.id)) return; // its answer waits: it is lent for that one
    if (!(await this.leases.claim(comparison.id))) return; // another tab was quicker
    this.renewal.lent(comparison);
    this.#ready.push(comparison);
    this.#tell("come", comparison);
  }

  async #fetch() {
    const body = new URLSearchParams();
    for (const id of await this.leases.held()) body.append("holding", id);
    if (page.pool) body.append("pool", page.pool);
    let response, html;
    try {
      response = await ask(page.urls.next, { method: "POST", body, signal: AbortSignal.timeout(60_000) });
      html = await response.text();
    } catch {
      return this.#tell("unreachable");
    }
    if (response.type === "opaqueredirect") return this.#tell("signed out");
    if (response.status === 403) return this.#tell("forbidden");
    if (!response.ok) return this.#tell("unreachable");
    const node = fragment(html).firstElementChild;
    return node.matches("form") ? node : this.#tell("none", node);
  }

  #tell(type, detail = null) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
    return null;
  }

  #fillLater() {
    this.#pauseMs = Math.min(this.#pauseMs * 2 || SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fill(), this.#pauseMs);
  }
}
