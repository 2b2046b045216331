/* What becomes of the comparison on the stage: it is answered, skipped, had back, or lost.
 *
 * An answer leaves the stage only when it is in the outbox. Event: "change", where there may be more or fewer to be had
 * back than a moment ago.
 */

import { announce } from "./announcer.js";
import { notice, tell, toast } from "./messages.js";
import { $, listed, page, say } from "./page.js";

const TO_BE_HAD_BACK = 10;

export class Answers extends EventTarget {
  isSending = false;
  #last = []; // comparisons that were answered or skipped and can be had back
  #skips = new WeakMap(); // comparison → its skip, while the outbox holds it

  constructor({ stage, ahead, outbox, leases, drafts }) {
    super();
    Object.assign(this, { stage, ahead, outbox, leases, drafts });
  }

  showNext() {
    const next = this.ahead.take();
    if (next) this.stage.show(next);
    else this.stage.clear();
    this.ahead.fill();
  }

  async submit() {
    const comparison = this.stage.current;
    if (!comparison || this.isSending) return;
    if (!comparison.isComplete) return sayWhatIsMissing(comparison);
    if (comparison.isUnchanged) return this.#leaveAsItWas(comparison);
    const answer = comparison.answer();
    const body = comparison.mode === "revision" ? answer : { token: comparison.form.dataset.token, ...answer };
    if (!(await this.#keep(comparison, comparison.mode, { body, order: comparison.order }))) return;
    announce(comparison.picked);
    if (comparison.mode === "ranking") $("beginning")?.remove();
    if (comparison.isTraining || this.stage.onlyOne) this.stage.awaited = comparison;
    else this.#putBy(comparison);
    this.#goOn();
  }

  async skip(reason) {
    const comparison = this.stage.current;
    if (!comparison?.canBeSkipped || this.isSending) return;
    const body = { token: comparison.form.dataset.token, reason: reason.slice(0, 200) };
    const entry = await this.#keep(comparison, "skip", { body, holdMs: page.skipHeldSeconds * 1000 });
    if (!entry) return;
    this.#skips.set(comparison, entry);
    this.#putBy(comparison);
    announce(say("skipped"));
    this.#goOn();
  }

  get canTakeBack() {
    return this.#last.length > 0 && !this.stage.awaited;
  }

  async takeBack() {
    if (this.isSending) return;
    const comparison = this.canTakeBack ? this.#last.pop() : null;
    const wasSkipped = this.#skips.has(comparison);
    if (!comparison || (wasSkipped && !(await this.#withdrawSkip(comparison)))) return tell(say("nothingToTakeBack"));
    this.#layAside(this.stage.current);
    if (!wasSkipped) {
      comparison.reopen();
      this.leases.claim(comparison.id); // so that no other tab goes on with the correction
    }
    this.#leaveWith(say(wasSkipped ? "notSkipped" : "takenBack"), () => this.stage.show(comparison));
  }

  /* A skip that the server has is somebody else's comparison. */
  forgetSkip(assignment) {
    this.#last = this.#last.filter((one) => one.id !== assignment || !this.#skips.has(one));
    this.dispatchEvent(new Event("change"));
  }

  /* Somebody else has the comparison on the stage now; what was written is kept until it is read. */
  async giveUp(comparison) {
    this.#leaveWith(say("lost"), () => this.showNext());
    await this.keepWords(comparison);
  }

  async keepWords(comparison) {
    try {
      await this.outbox.keepLost(comparison.id, comparison.answer());
      this.drafts.drop(comparison);
    } catch {
      notice(say("notKept")); // the draft stays
    }
    this.leases.letGo(comparison.id);
  }

  /* What was begun comes again after the answer that is had back; a correction in which nothing was corrected does not. */
  #layAside(comparison) {
    if (comparison?.mode === "ranking" || comparison?.isUnchanged === false) return this.ahead.putBack(comparison);
    if (!comparison) return;
    this.leases.letGo(comparison.id);
    this.drafts.drop(comparison);
  }

  #leaveAsItWas(comparison) {
    if (this.stage.onlyOne) return tell(say("unchanged"));
    this.leases.letGo(comparison.id);
    this.drafts.drop(comparison);
    this.#putBy(comparison);
    this.#leaveWith(say("unchanged"), () => this.showNext());
  }

  /* Into the outbox, and only then off the stage. Returns the outbox's entry, or null where it could not be kept. */
  async #keep(comparison, kind, entry) {
    this.isSending = true;
    performance.mark("whetstone-answer");
    try {
      const kept = await this.outbox.add({ assignment: comparison.id, kind, ...entry });
      this.leases.letGo(comparison.id);
      this.drafts.drop(comparison);
      return kept;
    } catch {
      notice(say("notKept"));
      return null;
    } finally {
      this.isSending = false;
    }
  }

  /* Said before what comes onto the stage is read out, and shown in its bar. */
  #leaveWith(text, showAnother) {
    announce(text);
    showAnother();
    toast(text);
  }

  #putBy(comparison) {
    this.#last = [...this.#last, comparison].slice(-TO_BE_HAD_BACK);
  }

  /* What is on the stage is answered: no key changes it now. */
  #goOn() {
    this.stage.current = null;
    if (this.stage.awaited) return;
    this.showNext();
    requestAnimationFrame(() => performance.measure("whetstone-next", "whetstone-answer"));
  }

  async #withdrawSkip(comparison) {
    this.isSending = true;
    try {
      return (await this.outbox.withdraw(this.#skips.get(comparison))) && (await this.leases.claim(comparison.id));
    } finally {
      this.isSending = false;
      this.#skips.delete(comparison);
      this.dispatchEvent(new Event("change"));
    }
  }
}

function sayWhatIsMissing(comparison) {
  comparison.activate(Math.max(0, comparison.ranks.indexOf(null)));
  const letters = comparison.letters.filter((_letter, index) => comparison.ranks[index] === null);
  tell(comparison.isPair ? say("incomplete") : say("noRank", { n: letters.length, letters: listed(letters) }));
}
