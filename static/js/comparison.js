/* One comparison on the page: which completion has which rank, and what was said beside.
 *
 * The form is the answer's only home: a rank is a checked radio. What a screen reader, a mouse, a finger or a key
 * changes ends in `place`, `setAllBad` or `pick`, which write the form and redraw. Event: "change".
 */

import { announce } from "./announcer.js";
import { Effort } from "./effort.js";
import { fillCards } from "./fragments.js";
import { say } from "./page.js";
import { Tray } from "./tray.js";

const OF_A_DRAFT = /^(rank|flag|axis)-|^(all_bad|strength|chip|rationale|better_answer)$/;
const HEAD_PX = 100; // room for the head of a completion and a line of it
const GAP_PX = 8;
const VERDICTS = {
  first: { ranks: [1, 2], allBad: false },
  second: { ranks: [2, 1], allBad: false },
  tie: { ranks: [1, 1], allBad: false },
  bad: { ranks: [1, 1], allBad: true },
};

export class Comparison extends EventTarget {
  #history = [];
  #tray = null;
  #lastRank = null;
  #displaced = null; // without ties: {by, holder, rank}, whose rank was taken last, and by whom
  #drawn = []; // ranks
  effort = new Effort();
  #given = null; // in a correction: what was said before

  constructor(form) {
    super();
    fillCards(form);
    this.form = form;
    this.id = Number(form.dataset.assignment);
    this.k = Number(form.dataset.k);
    this.isPair = this.k === 2;
    this.tiesAllowed = Boolean(form.dataset.ties);
    this.isTraining = Boolean(form.dataset.training);
    this.cards = [...form.querySelectorAll(".completion")];
    this.ids = this.cards.map((card) => Number(card.dataset.id));
    this.letters = this.cards.map((card) => card.querySelector("h2").lastChild.data);
    this.active = 0;
    this.verdict = form.querySelector('[name="verdict"][aria-pressed="true"]')?.value ?? null; // in a correction
    this.spans = JSON.parse(form.querySelector("script")?.textContent ?? "[]");
    if (!this.isPair) this.#tray = new Tray(this, form.querySelector(".tray"));
    form.addEventListener("input", () => this.effort.noteAction());
    form.addEventListener("change", (event) => this.#changed(event));
    form.addEventListener("focusin", (event) => {
      const card = event.target.closest(".completion");
      if (card) this.#mark(this.cards.indexOf(card));
    });
    this.#draw();
    if (this.mode === "revision") this.#given = this.#said;
  }

  get mode() {
    return this.form.dataset.mode;
  }

  /* In training nothing is. */
  get canBeSkipped() {
    return this.mode === "ranking" && !this.isTraining;
  }

  /* An answer that was sent, to be corrected: undone and counted is from here on only what is corrected. */
  reopen() {
    this.#history = [];
    this.effort = new Effort();
    this.effort.start(); // nor is it new: what another tab has begun of it stays there
    this.form.dataset.mode = "revision";
    this.#given = this.#said;
  }

  /* A correction in which nothing was corrected. */
  get isUnchanged() {
    return this.#given === this.#said;
  }

  get #said() {
    return JSON.stringify(this.#statement());
  }

  get ranks() {
    return this.ids.map((id) => Number(this.form.querySelector(`input[name="rank-${id}"]:checked`)?.value) || null);
  }

  get allBad() {
    return this.form.querySelector('input[name="all_bad"]')?.checked ?? false;
  }

  /* It comes onto the stage. */
  shown() {
    this.#mark(Math.max(0, this.ranks.indexOf(null)));
    this.effort.start();
  }

  get isComplete() {
    if (this.isPair) return this.verdict !== null;
    return this.allBad || this.ranks.every((rank) => rank !== null);
  }

  get canUndo() {
    return this.#history.length > 0;
  }

  get hasStrength() {
    return this.#strength !== null;
  }

  get asksStrength() {
    return Number(this.form.dataset.strengths) > 0;
  }

  /* --- what a person does --- */

  place(index, rank) {
    const ranks = this.ranks;
    if (rank !== null && (rank < 1 || rank > this.k)) return false;
    this.#remember();
    if (this.allBad || (ranks[index] !== null && ranks[index] !== rank)) this.effort.noteChange();
    if (!this.tiesAllowed) this.#displace(index, rank, ranks);
    this.#write(index, rank);
    if (rank !== null) this.#lastRank = rank;
    this.#writeAllBad(false);
    this.#draw();
    return true;
  }

  /* Takes the rank from whoever has it. Who moves on at once, as an arrow does along its radios, gives it back. */
  #displace(index, rank, ranks) {
    if (rank === ranks[index]) return;
    const was = this.#displaced;
    if (was?.by === index && was.rank === ranks[index] && ranks[was.holder] === null) this.#give(was.holder, was.rank);
    const holder = rank === null ? -1 : ranks.indexOf(rank);
    this.#displaced = holder < 0 || holder === index ? null : { by: index, holder, rank };
    if (this.#displaced) this.#give(holder, null);
  }

  #give(index, rank) {
    this.#write(index, rank);
    announce(say(rank === null ? "unplaced" : "placed", { letter: this.letters[index], rank }));
  }

  /* The digit keys: rank the marked completion, and mark the next one that has no rank. In a correction, where all
   * have one already, simply the next; the digit that completes an answer leaves the mark, so that a slip is mended. */
  placeActive(rank) {
    const index = this.active;
    const hadAll = !this.ranks.includes(null);
    if (!this.place(index, rank)) return null;
    this.#markNext(index, hadAll);
    return index;
  }

  tieWithBefore() {
    const rank = this.#lastRank ?? this.ranks[this.active - 1] ?? null;
    return this.tiesAllowed && rank !== null ? this.placeActive(rank) : null;
  }

  tieAll() {
    if (!this.tiesAllowed) return false;
    this.#remember();
    if (this.allBad || this.ranks.some((rank) => rank > 1)) this.effort.noteChange();
    this.ids.forEach((_id, index) => this.#write(index, 1));
    this.#lastRank = 1;
    this.#writeAllBad(false);
    this.#draw();
    return true;
  }

  /* Clicking completions in order of preference: the best rank that none has yet; again, and it is taken back. */
  toggleNextPlace(index) {
    const ranks = this.ranks;
    if (ranks[index] !== null) return this.place(index, null);
    const free = [...Array(this.k).keys()].map((n) => n + 1).find((rank) => !ranks.includes(rank));
    return this.place(index, free);
  }

  setAllBad(on) {
    this.#remember();
    if (!on || this.ranks.some((rank) => rank !== null)) this.effort.noteChange();
    this.#writeAllBad(on);
    this.#draw();
  }

  mark(span) {
    this.effort.noteAction();
    this.spans.push(span);
  }

  unmark(span) {
    this.effort.noteAction();
    this.effort.noteChange();
    this.spans.splice(this.spans.indexOf(span), 1);
  }

  pick(verdict) {
    if (verdict === "tie" && !this.tiesAllowed) return false;
    this.#remember();
    if (this.verdict && this.verdict !== verdict) {
      this.effort.noteChange();
      this.setStrength(null); // which was said of the other one
    }
    this.verdict = verdict;
    this.#draw();
    return true;
  }

  /* None, then each of the scale in turn, then none again; returns its words, or null for none. */
  nextStrength() {
    const n = (this.#strength ?? 0) + 1;
    this.#remember();
    if (this.setStrength(n)) return wordsOf(this.form.querySelector('[name="strength"]:checked + span'));
    this.setStrength(null);
    return null;
  }

  /* Nothing, where the scale has no such step. */
  setStrength(n) {
    const radios = this.form.querySelectorAll('[name="strength"]');
    if (n > radios.length) return false;
    for (const radio of radios) radio.checked = Number(radio.value) === n;
    return true;
  }

  undo() {
    const before = this.#history.pop();
    if (!before) return false;
    this.effort.noteChange();
    before.ranks.forEach((rank, index) => this.#write(index, rank));
    this.#writeAllBad(before.allBad);
    this.verdict = before.verdict;
    this.setStrength(before.strength);
    this.#draw();
    return true;
  }

  activate(index, withFocus = true) {
    if (index < 0 || index >= this.k) return;
    this.#mark(index);
    if (withFocus) this.cards[index].focus({ preventScroll: true });
    this.#bringIntoSight(this.cards[index]);
  }

  #mark(index) {
    this.active = index;
    this.cards.forEach((card, at) => card.classList.toggle("is-active", at === index));
  }

  /* A completion that has room above the bar comes there whole, ranks and all; of a longer one the head has to be in
   * sight. Otherwise the page does not move: what one reads stays where it is. */
  #bringIntoSight(card) {
    const box = card.getBoundingClientRect();
    const strip = card.parentElement.getBoundingClientRect();
    if (box.left < strip.left || box.right > strip.right) card.parentElement.scrollBy({ left: box.left - strip.left - 4 });
    const bar = this.form.querySelector(".bar").getBoundingClientRect();
    const top = Number.parseFloat(getComputedStyle(card.firstElementChild).top) || 0; // on a phone
    const isShort = box.height <= bar.top - top - 2 * GAP_PX;
    if (isShort && box.bottom > bar.top) scrollBy({ top: box.bottom - bar.top + GAP_PX });
    else if (box.top < top || box.top > bar.top - HEAD_PX) scrollBy({ top: box.top - top - GAP_PX });
  }

  /* --- the answer --- */

  answer() {
    return { ...this.#statement(), ...this.effort.measured };
  }

  /* All that was said, without what it took. */
  #statement() {
    const data = new FormData(this.form);
    const pair = this.isPair ? VERDICTS[this.verdict] : null;
    const ranks = pair ? pair.ranks : this.ranks;
    const isRanked = ranks.every((rank) => rank !== null);
    const byCompletion = (read) => Object.fromEntries(this.ids.map((id) => [id, read(id)]).filter(([, value]) => value));
    return {
      ranks: isRanked ? Object.fromEntries(this.ids.map((id, index) => [id, ranks[index]])) : {},
      all_bad: pair ? pair.allBad : this.allBad,
      flags: byCompletion((id) => nonEmpty(data.getAll(`flag-${id}`))),
      axes: byCompletion((id) => this.#ratings(data, id)),
      spans: this.spans.map(({ completion, start, end, label, note }) => ({ completion, start, end, label, note })),
      strength: new Set(ranks).size > 1 ? this.#strength : null, // of the first over the next, where there is a next
      rationale: data.get("rationale") ?? "",
      chips: data.getAll("chip"),
      better_answer: data.get("better_answer") ?? "",
    };
  }

  /* Whether anything was said that was not sent yet. */
  get isBegun() {
    if (this.mode === "revision") return !this.isUnchanged;
    return this.#fields.length > 0 || this.spans.length > 0 || this.verdict !== null;
  }

  /* To go on from on another page: what was said, and what it took. */
  get draft() {
    const { mode, isBegun, verdict } = this;
    const spans = this.spans.map(({ range, ...span }) => span);
    return { mode, isBegun, fields: this.#fields, spans, verdict, lastRank: this.#lastRank, effort: this.effort.counts };
  }

  restore({ isBegun, fields, spans, verdict, lastRank = null, effort }) {
    this.effort.goOnFrom(effort);
    if (!isBegun) return;
    this.#history.push(this.#state);
    for (const input of this.form.elements) {
      if (!OF_A_DRAFT.test(input.name)) continue;
      const said = fields.filter(([name]) => name === input.name).map(([, value]) => value);
      const isChoice = input.matches("[type=radio], [type=checkbox]");
      if (isChoice) input.checked = said.includes(input.value);
      else input.value = said[0] ?? "";
      const details = input.closest("details");
      if (details && said.length) details.open = true;
    }
    this.spans = spans.map((span) => ({ ...span, range: null })); // listed; where they stand in the view is not kept
    this.verdict = verdict;
    this.#lastRank = lastRank;
    this.#draw();
  }

  get #fields() {
    return [...new FormData(this.form)].filter(([name, value]) => OF_A_DRAFT.test(name) && value);
  }

  /* What `undo` brings back. */
  get #state() {
    return { ranks: this.ranks, allBad: this.allBad, verdict: this.verdict, strength: this.#strength };
  }

  get #strength() {
    return Number(this.form.querySelector('input[name="strength"]:checked')?.value) || null;
  }

  /* For people: "C > A = B", or nothing where a completion has no rank; below it what was ticked and marked. */
  get order() {
    const strength = this.#statement().strength && ".strengths :checked + span";
    const said = ["details :checked + span", strength, ".marks li > span"].filter(Boolean).join();
    const lines = [...this.form.querySelectorAll(said)].map((one) => {
      const letter = one.closest(".completion")?.querySelector("h2").lastChild.data;
      const legend = one.closest("fieldset")?.firstChild.firstChild.data.trim();
      return [letter, legend, wordsOf(one)].filter(Boolean).join(" ");
    });
    return [this.#places, ...lines].join("\n").trim();
  }

  get #places() {
    if (this.allBad || this.verdict === "bad") return say("allBad");
    const ranks = this.verdict ? VERDICTS[this.verdict].ranks : this.ranks;
    if (ranks.includes(null)) return "";
    const levels = [...new Set(ranks)].sort();
    return levels.map((level) => this.letters.filter((_, index) => ranks[index] === level).join(" = ")).join(" > ");
  }

  /* "B is better", where one of the verdicts on a pair was chosen. */
  get picked() {
    return this.form.querySelector(`button[name="verdict"][value="${this.verdict}"]`)?.lastChild.data.trim() ?? "";
  }

  #ratings(data, id) {
    const prefix = `axis-${id}-`;
    const found = [...data].filter(([name]) => name.startsWith(prefix));
    return found.length ? Object.fromEntries(found.map(([name, value]) => [name.slice(prefix.length), Number(value)])) : null;
  }

  /* --- the form and its looks --- */

  #remember() {
    this.effort.noteAction();
    this.#history.push(this.#state);
  }

  #changed(event) {
    const input = event.target;
    if (input.name.startsWith("rank-")) {
      const index = this.ids.indexOf(Number(input.name.slice(5)));
      const rank = Number(input.value);
      this.#write(index, this.#drawn[index]);
      this.place(index, rank);
    } else if (input.name === "all_bad") {
      const on = input.checked;
      input.checked = !on;
      this.setAllBad(on);
    }
  }

  #write(index, rank) {
    for (const radio of this.form.querySelectorAll(`input[name="rank-${this.ids[index]}"]`)) {
      radio.checked = Number(radio.value) === rank;
    }
  }

  #writeAllBad(on) {
    const box = this.form.querySelector('input[name="all_bad"]');
    if (box) box.checked = on;
  }

  #markNext(index, hadAll) {
    const ranks = this.ranks;
    const hadFocus = this.cards[index].contains(document.activeElement);
    for (let step = 1; step < this.k; step += 1) {
      const next = (index + step) % this.k;
      if (hadAll || ranks[next] === null) return this.activate(next, hadFocus);
    }
  }

  #draw() {
    const ranks = this.ranks;
    this.#drawn = ranks;
    this.cards.forEach((card, index) => {
      card.querySelector(".place").textContent = this.allBad ? "0" : ranks[index] ?? "";
      card.classList.toggle("is-ranked", ranks[index] !== null && !this.allBad);
    });
    for (const button of this.form.querySelectorAll('button[name="verdict"]')) {
      if (this.verdict) button.setAttribute("aria-pressed", String(button.value === this.verdict));
      else button.removeAttribute("aria-pressed");
    }
    this.form.classList.toggle("is-all-bad", this.allBad || this.verdict === "bad");
    this.form.classList.toggle("is-complete", this.isComplete);
    this.form.querySelector("button.submit")?.setAttribute("aria-disabled", String(!this.isComplete));
    this.#tray?.draw();
    this.dispatchEvent(new Event("change"));
  }
}

/* What stands there but for its key. */
function wordsOf(element) {
  return [...element.childNodes].filter(({ nodeName }) => nodeName !== "KBD").map(({ textContent }) => textContent).join("").trim();
}

function nonEmpty(list) {
  return list.length ? list : null;
}
