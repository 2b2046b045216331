/* Answers that the server does not have yet.
 *
 * An answer is committed to IndexedDB before anything is sent, with the idempotency key it is sent with: whatever
 * breaks after that (reload, crash, network, session, server), it is sent again with the same key, and the server
 * stores it once. What may still be taken back (a skip) waits there a few seconds. An answer that the server fails at,
 * or gives no answer to while it answers to others, is tried again by itself and then set aside, while those behind it
 * go on. One tab sends at a time.
 *
 * Events: "change" after every step, detail {waiting, held, aside, state}, where what is held does not wait for
 * anything to go right, and what is set aside waits as well; "sent", "aside" and "problem" with the entry, in every
 * tab: `isElsewhere` where another one has sent it.
 */

import { locks, say } from "./page.js";
import { ask } from "./server.js";

const STORE = "answers";
const RETRY_SECONDS = [1, 2, 4, 8, 15, 30];
const REFUSALS = new Set([400, 404, 409, 410, 413, 422]);
const UNREACHABLE = new Set([425, 429, 502, 503]); // no answer would get through now
const LATE = new Set([408, 504]); // it took too long, for the server or for what stands before it
const STATES = new Set(["offline", "signed out", "forbidden"]); // of all answers
const TIMEOUT_MS = 20_000;
const NEXT_TIMEOUT_MS = 5_000; // once one has timed out and nothing was answered since
const SAFE_MS = 1_000; // with more than this left of its pause, nothing sends an entry
const FAILURE_SECONDS = [2, 10, 300]; // one answer's pauses after failures; at the last it is set aside

function database() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("whetstone", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* How long an entry is still held, by a clock that may have been set back meanwhile. */
function heldMs({ at, holdMs = 0 }) {
  const passed = Date.now() - at;
  return passed >= 0 && passed < holdMs ? holdMs - passed : 0;
}

function isAside({ failures = 0 }) {
  return failures >= FAILURE_SECONDS.length;
}

export class Outbox extends EventTarget {
  #database = database();
  #timer = 0;
  #queued = null; // the flush that waits for its turn: one is enough for all that is there by then
  #failures = 0;
  #isAskedToKeep = false;
  #channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("whetstone-outbox") : null;

  constructor({ user, urls }) {
    super();
    this.user = user;
    this.urls = urls;
    this.state = "saved";
    this.#channel?.addEventListener("message", ({ data }) => this.#heard(data));
    addEventListener("online", () => this.flush());
    addEventListener("focus", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden || this.flush());
  }

  /* Keep an answer; when the promise resolves it is on the disk. `order`: its ranks as a person reads them. */
  async add({ assignment, kind, body, order = "", problem = null, holdMs = 0 }) {
    const entry = { key: randomKey(), user: this.user, assignment, kind, body, order, at: Date.now(), holdMs, problem };
    entry.id = await this.#write((store) => store.add(entry));
    await this.#tell();
    this.flush();
    return entry;
  }

  /* What was written on a comparison that somebody else has now, until it was read. */
  async keepLost(assignment, body) {
    const problem = { code: "lost", detail: say("lost") };
    if (body.rationale || body.better_answer) await this.add({ assignment, kind: "ranking", body, problem });
  }

  /* Whether this browser keeps anything for this site. */
  async opens() {
    return this.#database.then(() => true, () => false);
  }

  async all() {
    const entries = await this.#read((store) => store.getAll());
    return entries.filter((entry) => entry.user === this.user);
  }

  /* Whether anything more is to be heard of an entry soon. */
  isOnItsWay(entry) {
    return !entry.problem && !isAside(entry);
  }

  async waiting() {
    return (await this.all()).filter((entry) => !entry.problem);
  }

  async problems() {
    return (await this.all()).filter((entry) => entry.problem);
  }

  /* Take back what is not sent yet; false where it is. */
  async withdraw(entry) {
    const takeOut = async () => {
      const isThere = (await this.waiting()).some((one) => one.id === entry.id);
      if (isThere) await this.dismiss(entry);
      return isThere;
    };
    return heldMs(entry) > SAFE_MS ? takeOut() : oneAtATime(takeOut);
  }

  async dismiss(entry) {
    await this.#write((store) => store.delete(entry.id));
    await this.#tell();
  }

  /* Send what waits, oldest first. */
  async flush() {
    clearTimeout(this.#timer);
    this.#queued ??= oneAtATime(() => {
      this.#queued = null;
      return this.#send();
    });
    await this.#queued;
  }

  /* Send at once what was set aside as well. */
  async retry() {
    await oneAtATime(async () => {
      for (const entry of (await this.waiting()).filter(isAside)) {
        await this.#write((store) => store.put({ ...entry, holdMs: 0 }));
      }
    });
    await this.flush();
  }

  async #send() {
    const late = []; // what timed out before anything was answered: its own trouble, or the connection's?
    let isAnswering = false;
    for (;;) {
      const first = firstOfEach(await this.waiting()).filter((one) => !late.some(({ id }) => id === one.id));
      const entry = first.find((one) => heldMs(one) === 0);
      if (!entry && late.length) return this.#settle("offline");
      if (!entry) {
        if (first.length) this.#timer = setTimeout(() => this.flush(), Math.min(...first.map(heldMs)));
        return this.#settle("saved");
      }
      const result = await this.#post(entry, late.length ? NEXT_TIMEOUT_MS : TIMEOUT_MS);
      if (STATES.has(result)) return this.#settle(result);
      if (result === "late" && !isAnswering && !entry.isSlow) {
        late.push(entry);
        this.state = "offline";
        await this.#tell();
        continue;
      }
      isAnswering ||= result !== "late";
      if (isAnswering) for (const one of late.splice(0)) await this.#putOff(one, "late");
      this.#failures = 0;
      if (result === "sent") {
        await this.#write((store) => store.delete(entry.id));
        this.#tellAll("sent", entry);
      } else if (result === "failed" || result === "late") {
        await this.#putOff(entry, result);
      } else {
        entry.problem = result;
        await this.#write((store) => store.put(entry));
        this.#tellAll("problem", entry);
      }
      await this.#tell();
    }
  }

  /* `isSlow`: it timed out while others were answered, so it is not the connection. */
  async #putOff(entry, result) {
    const failures = (entry.failures ?? 0) + 1;
    const isSlow = entry.isSlow || result === "late";
    const seconds = FAILURE_SECONDS[Math.min(failures, FAILURE_SECONDS.length) - 1];
    Object.assign(entry, { failures, isSlow, at: Date.now(), holdMs: seconds * 1000 });
    await this.#write((store) => store.put(entry));
    if (isAside(entry)) this.#tellAll("aside", entry);
  }

  async #post(entry, timeoutMs) {
    const signal = AbortSignal.timeout(timeoutMs);
    let response;
    try {
      response = await ask(this.urls[entry.kind].replace("/0/", `/${entry.assignment}/`), {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": entry.key },
        body: JSON.stringify(entry.body),
        signal,
      });
    } catch {
      return signal.aborted ? "late" : "offline"; // not by the name of the error: WebKit has one for both
    }
    if (response.ok) return "sent";
    if (response.type === "opaqueredirect" || response.status === 401) return "signed out";
    if (response.status === 403) return "forbidden"; // another role or person meanwhile, or no CSRF token any more
    if (UNREACHABLE.has(response.status)) return "offline";
    if (LATE.has(response.status)) return "late";
    if (!REFUSALS.has(response.status)) return "failed";
    const { code = "error", detail = "" } = await response.json().catch(() => ({}));
    if (code === "nothing_changed") return "sent"; // another tab said the same: the server has it
    if (code === "stale_lease" && entry.kind === "skip") return "sent"; // somebody else has it already
    return { code, detail };
  }

  async #settle(state) {
    this.state = state;
    if (state !== "saved") this.#askToKeep();
    await this.#tell();
    this.#channel?.postMessage({});
    if (state === "saved") return;
    const seconds = RETRY_SECONDS[Math.min(this.#failures++, RETRY_SECONDS.length - 1)];
    this.#timer = setTimeout(() => this.flush(), seconds * 1000);
  }

  /* The browser is not to clear away what waits when its disk is full. Only now: Firefox asks the person. */
  #askToKeep() {
    if (!this.#isAskedToKeep) navigator.storage?.persist?.().catch(() => {});
    this.#isAskedToKeep = true;
  }

  #tellAll(type, entry) {
    this.dispatchEvent(new CustomEvent(type, { detail: entry }));
    this.#channel?.postMessage({ type, entry });
  }

  /* What another tab tells, perhaps one of somebody else. */
  #heard({ type, entry }) {
    if (entry?.user === this.user) this.dispatchEvent(new CustomEvent(type, { detail: { ...entry, isElsewhere: true } }));
    this.#tell();
  }

  async #tell() {
    const entries = await this.waiting();
    const held = entries.filter((entry) => !entry.failures && heldMs(entry) > 0).length;
    const detail = { waiting: entries.length - held, held, aside: entries.filter(isAside).length, state: this.state };
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }

  async #read(action) {
    const store = (await this.#database).transaction(STORE, "readonly").objectStore(STORE);
    return new Promise((resolve, reject) => {
      const request = action(store);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  }

  async #write(action) {
    const transaction = (await this.#database).transaction(STORE, "readwrite", { durability: "strict" });
    const request = action(transaction.objectStore(STORE));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
}

/* The oldest of each comparison: a correction waits for the answer that it corrects. */
function firstOfEach(entries) {
  return entries.filter((one, index) => index === entries.findIndex((other) => other.assignment === one.assignment));
}

function oneAtATime(action) {
  return locks.request("whetstone-outbox", action);
}
