/* The ranking page: one comparison on the stage, two fetched ahead, answers in the outbox. */

import { Comparison } from "./comparison.js";
import { Drafts } from "./drafts.js";
import { AS_FRAGMENT, fragment } from "./fragments.js";
import { Keyboard, listKeys, printKeys } from "./keyboard.js";
import { Leases } from "./leases.js";
import { Marks } from "./marks.js";
import { Outbox, csrfToken } from "./outbox.js";
import { Panes } from "./panes.js";
import { showDifferences, toggleGuidelines, toggleRaw } from "./reading.js";
import { Renewal } from "./renewal.js";

const AHEAD = 2;
const TOAST_MS = 6_000;

const page = JSON.parse(document.getElementById("page-data").textContent);
/* `n` chooses between one and many, where the page has a sentence for one. */
const say = (name, values = {}) => {
  const sentence = (values.n === 1 && page.strings[`${name}One`]) || page.strings[name];
  return sentence.replace(/\{(\w+)\}/g, (_all, key) => values[key]);
};
const $ = (id) => document.getElementById(id);
const stage = $("stage");
const onlyOne = stage.dataset.only === "1"; // the page that corrects one answer

const outbox = new Outbox(page);
const leases = new Leases(outbox);
const renewal = new Renewal(page.urls.renewal);
const drafts = new Drafts(page.user, () => current);
const panes = new Panes(document.getElementById("main"), $("panes-button"), say("shortTexts"));
const ahead = [];
const answered = [];
const skipped = new WeakMap(); // comparison → its skip, which the outbox still holds
let current = null;
let trained = null; // a training answer on its way, whose feedback comes before the next comparison
let isFetching = false;
let isSending = false;
let retryMs = 0;
let retryTimer = 0;
let hasWaited = false; // an answer of this page waited once, and was not refused
let toastTimer = 0;

/* --- fetching ahead --- */

async function fetchAhead() {
  if (isFetching || onlyOne) return;
  isFetching = true;
  try {
    while (ahead.length < AHEAD || !(current || trained)) {
      const form = await fetchNext();
      if (!form) break;
      retryMs = 0;
      const comparison = new Comparison(form);
      if (!(await leases.claim(comparison.id))) continue;
      renewal.lent(comparison);
      ahead.push(comparison);
      if (!current && !isSending && !trained) showNext();
    }
  } finally {
    isFetching = false;
  }
}

async function fetchNext() {
  const body = new URLSearchParams();
  for (const id of await leases.held()) body.append("holding", id);
  if (page.pool) body.append("pool", page.pool);
  let response, html;
  try {
    response = await fetch(page.urls.next, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken() },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(60_000),
    });
    html = await response.text();
  } catch {
    sayNothingIsLeft();
    return fetchLater();
  }
  if (response.type === "opaqueredirect" || response.status === 403) {
    showSignedOut();
    return fetchLater();
  }
  if (!response.ok) {
    sayNothingIsLeft();
    return fetchLater();
  }
  const node = fragment(html).firstElementChild;
  if (node.matches("form")) return node;
  if (!current && !ahead.length && !stage.querySelector("[data-nothing]")) stage.replaceChildren(node);
  return fetchLater();
}

/* Without a connection, and with all that was fetched answered, the stage says so. */
function sayNothingIsLeft() {
  if (current || trained || ahead.length || stage.firstElementChild) return;
  const line = document.createElement("p");
  line.className = "nothing empty";
  line.textContent = say("nothingIsLeft");
  stage.replaceChildren(line);
}

function fetchLater() {
  retryMs = Math.min(retryMs * 2 || 2_000, 15_000);
  clearTimeout(retryTimer);
  retryTimer = setTimeout(fetchAhead, retryMs);
  return null;
}

addEventListener("online", fetchAhead);

/* --- the stage --- */

function showNext() {
  let next = ahead.shift();
  while (next && renewal.isStale(next)) {
    leases.letGo(next.id); // its lease is about to end: the server hands it back renewed
    next = ahead.shift();
  }
  current = null;
  if (next) show(next);
  else stage.replaceChildren();
  fetchAhead();
}

function show(comparison) {
  current = comparison;
  $("toast").hidden = true; // it spoke of the one before
  stage.replaceChildren(comparison.form);
  scrollTo(0, 0);
  stage.querySelector("h1").focus({ preventScroll: true });
  prepare(comparison);
  const link = $("guidelines-link");
  link.hidden = !comparison.form.dataset.guidelines;
  link.href = comparison.form.dataset.guidelines;
}

/* The line for beginners says how this comparison is answered, until the first answer. */
function showBeginning(comparison) {
  const kind = comparison.isPair ? "pair" : comparison.tiesAllowed ? "ties" : "strict";
  const line = $("beginning");
  if (line) line.hidden = false;
  for (const sentence of line?.children ?? []) sentence.hidden = sentence.dataset.for !== kind;
}

/* What was begun on it comes back, its clock starts, its marks and panes are drawn. */
function prepare(comparison) {
  printKeys(document, page.keys, comparison.k);
  if (drafts.restore(comparison)) toast(say("restored"));
  showBeginning(comparison);
  comparison.shown();
  comparison.addEventListener("change", drawUndo);
  drawUndo();
  barSize.disconnect();
  barSize.observe(comparison.form.querySelector(".bar"));
  marks.show(comparison);
  panes.show(comparison);
}

/* Say on the server that somebody is at work here; and here, at once, what was lent to somebody else meanwhile. */
async function renewLeases() {
  const held = [current, ...ahead].filter((comparison) => comparison?.mode === "ranking");
  const lost = await renewal.renew(held);
  for (const comparison of ahead.filter((one) => lost.includes(one))) {
    ahead.splice(ahead.indexOf(comparison), 1);
    leases.letGo(comparison.id);
  }
  if (lost.includes(current) && !isSending) giveUp(current); // and not answered while the server was asked
}

async function giveUp(comparison) {
  const body = comparison.answer();
  leases.letGo(comparison.id);
  drafts.drop(comparison);
  showNext();
  toast(say("lost"));
  if (!body.rationale && !body.better_answer) return;
  await outbox.add({ assignment: comparison.id, kind: "ranking", body, problem: { code: "lost", detail: say("lost") } });
  showProblems();
}

/* "B, C and D" in the page's language. */
function listed(words) {
  return new Intl.ListFormat(document.documentElement.lang, { type: "conjunction" }).format(words);
}

function announce(text) {
  $("announcer").textContent = text;
}

function toast(text) {
  const element = $("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), TOAST_MS);
}

/* The toast stands on the bar, also when that grows or goes. */
const barSize = new ResizeObserver(() => {
  $("toast").style.setProperty("--bar-height", `${stage.querySelector(".bar")?.offsetHeight ?? 0}px`);
});

function drawUndo() {
  const canTakeBack = answered.length > 0 && !onlyOne;
  const button = current?.form.querySelector('[data-act="undo"]');
  button?.setAttribute("aria-disabled", String(!current.canUndo && !canTakeBack));
}

/* --- answering --- */

async function submit() {
  const comparison = current;
  if (!comparison || isSending) return;
  if (!comparison.isComplete) {
    comparison.activate(Math.max(0, comparison.ranks.indexOf(null)));
    const letters = comparison.letters.filter((_letter, index) => comparison.ranks[index] === null);
    const text = comparison.isPair ? say("incomplete") : say("noRank", { n: letters.length, letters: listed(letters) });
    toast(text);
    return announce(text);
  }
  if (comparison.isUnchanged) return leaveAsItWas(comparison);
  const answer = comparison.answer();
  const body = comparison.mode === "revision" ? answer : { token: comparison.form.dataset.token, ...answer };
  if (!(await keep(comparison, comparison.mode, body)) || onlyOne || comparison.isTraining) return;
  answered.push(comparison);
  answered.splice(0, answered.length - 10);
  drawUndo();
}

function leaveAsItWas(comparison) {
  if (!onlyOne) {
    answered.push(comparison);
    showNext();
  }
  announce(say("unchanged"));
  toast(say("unchanged"));
}

async function skip(reason) {
  const comparison = current;
  if (!comparison || isSending || comparison.mode === "revision") return;
  const body = { token: comparison.form.dataset.token, reason: reason.slice(0, 200) };
  if (!(await keep(comparison, "skip", body))) return;
  answered.push(comparison);
  drawUndo();
  announce(say("skipped"));
}

/* Put it into the outbox, and only then leave the comparison. Returns whether it is kept. */
async function keep(comparison, kind, body) {
  isSending = true;
  performance.mark("whetstone-answer");
  try {
    const isSkip = kind === "skip";
    const holdMs = isSkip ? page.skipHeldSeconds * 1000 : 0;
    const entry = await outbox.add({ assignment: comparison.id, kind, body, order: isSkip ? "" : comparison.order, holdMs });
    if (isSkip) skipped.set(comparison, entry);
  } catch {
    notice(say("notKept"));
    return false;
  } finally {
    isSending = false;
  }
  if (kind === "ranking") $("beginning")?.remove();
  leases.letGo(comparison.id);
  drafts.drop(comparison);
  const waitsForFeedback = comparison.isTraining && kind === "ranking";
  if (onlyOne || waitsForFeedback) {
    current = null; // what is on the stage is answered: no key changes it now
    trained = waitsForFeedback ? comparison : null;
    return true;
  }
  showNext();
  requestAnimationFrame(() => performance.measure("whetstone-next", "whetstone-answer"));
  return true;
}

async function takeBack() {
  if (isSending) return;
  const comparison = answered.pop();
  if (!comparison || onlyOne) return announce(say("nothingToTakeBack"));
  const wasSkipped = skipped.has(comparison);
  if (wasSkipped && !(await withdrawSkip(comparison))) return announce(say("nothingToTakeBack"));
  if (current?.mode === "ranking") ahead.unshift(current);
  if (!wasSkipped) comparison.reopen();
  show(comparison);
  const text = say(wasSkipped ? "notSkipped" : "takenBack");
  toast(text);
  announce(text);
}

async function withdrawSkip(comparison) {
  isSending = true;
  try {
    return (await outbox.withdraw(skipped.get(comparison))) && (await leases.claim(comparison.id));
  } finally {
    isSending = false;
    skipped.delete(comparison);
    drawUndo();
  }
}

/* A skip that the server has is somebody else's comparison. */
function forgetSkip(entry) {
  const index = answered.findIndex((one) => one.id === entry.assignment && skipped.has(one));
  if (index >= 0) answered.splice(index, 1);
  drawUndo();
}

outbox.addEventListener("change", ({ detail: { waiting, state } }) => {
  hasWaited ||= waiting > 0;
  $("saved").textContent = waiting ? say("waiting", { n: waiting }) : hasWaited ? say("saved") : "";
  $("saved").classList.toggle("is-waiting", waiting > 0);
  if (state === "signed out") showSignedOut(waiting);
  else if (state === "offline" && waiting) notice(say("offline", { n: waiting }));
  else notice("");
});

outbox.addEventListener("sent", ({ detail: entry }) => {
  hasWaited = true;
  if (entry.kind === "skip") forgetSkip(entry);
  if (onlyOne) location.assign(page.urls.work);
  else if (trained?.id === entry.assignment) showFeedback(trained);
  fetchAhead();
});

outbox.addEventListener("problem", ({ detail: entry }) => {
  hasWaited = false;
  showProblems();
  if (trained?.id !== entry.assignment) return;
  trained = null;
  showNext();
});

function notice(text, link = null) {
  const element = $("notice");
  if (element.firstChild?.textContent === text) return; // said once, not at every attempt
  element.hidden = !text;
  element.replaceChildren(text);
  if (link) element.append(" ", link);
}

async function showSignedOut() {
  const link = document.createElement("a");
  link.href = page.urls.signIn;
  link.className = "button small";
  link.textContent = say("signIn");
  notice(say("signedOut", { n: (await outbox.waiting()).length }), link);
}

async function showProblems() {
  const dialog = $("problem-dialog");
  const problem = (await outbox.problems())[0];
  if (!problem) return dialog.close();
  const { rationale, better_answer: better, reason } = problem.body;
  dialog.querySelector(".problem-reason").textContent = problem.problem.detail;
  dialog.querySelector(".problem-text").value = [rationale, better, problem.order, reason].filter(Boolean).join("\n\n");
  dialog.querySelector('[data-act="dismiss-problem"]').onclick = async () => {
    await outbox.dismiss(problem);
    showProblems();
  };
  if (!dialog.open) dialog.showModal();
}

async function showFeedback(comparison) {
  const dialog = $("feedback-dialog");
  const response = await fetch(comparison.form.dataset.feedback, AS_FRAGMENT).catch(() => null);
  trained = null;
  if (!response?.ok) return showNext();
  dialog.addEventListener("close", () => showNext(), { once: true });
  dialog.querySelector(".content").replaceChildren(fragment(await response.text()));
  dialog.showModal();
}

/* --- what keys and pointers do --- */

function openDetails(selector, inside = current.form) {
  const details = inside.querySelector(selector);
  if (!details) return;
  details.open = !details.open;
  (details.open ? details.querySelector("textarea, input") : inside.querySelector("h1"))?.focus();
}

function askReason(id) {
  if (current && current.mode !== "revision") $(id).showModal();
}

function placed(index) {
  if (index === null) return;
  const [letter, rank] = [current.letters[index], current.ranks[index]];
  const text = rank === null ? say("unplaced", { letter }) : say("placed", { letter, rank });
  announce(current.isComplete ? `${text}. ${say("complete")}` : text);
}

/* Where the pool asks how much better, a pick waits for it: until it is said, left open, or the same is picked again. */
const pick = (verdict) => {
  if (!current.isPair) return;
  const isRepeated = current.verdict === verdict;
  if (!current.pick(verdict)) return announce(say("noTies"));
  const isStrict = verdict === "first" || verdict === "second";
  const isSaid = current.hasStrength && current.mode !== "revision";
  if (current.asksStrength && isStrict && !isRepeated && !isSaid) return announce(say("strength"));
  submit();
};

const actions = {
  pick_first: () => pick("first"),
  pick_second: () => pick("second"),
  pick_tie: () => pick("tie"),
  pick_bad: () => pick("bad"),
  rank(n) {
    if (!current.isPair) return placed(current.placeActive(n));
    if (current.verdict && current.setStrength(n)) submit();
  },
  focus: (n) => current.activate(n - 1),
  tie: () => (current.isPair ? pick("tie") : placed(current.tieWithBefore())),
  strength() {
    if (current.asksStrength) announce(current.nextStrength() ?? say("noStrength"));
  },
  all_bad() {
    if (current.isPair) return pick("bad");
    current.setAllBad(!current.allBad);
    announce(say(current.allBad ? "allBad" : "notAllBad"));
  },
  submit,
  undo: () => (current?.undo() ? announce(say("undone")) : takeBack()),
  skip: () => askReason("skip-dialog"),
  not_rankable: () => askReason("not-rankable-dialog"),
  diff() {
    const first = current.isPair ? 0 : current.active;
    showDifferences(current, first, (first + 1) % current.k, say);
  },
  raw: () => current.cards.forEach(toggleRaw),
  more: () => openDetails(".more", current.cards[current.active]),
  mark_good: () => marks.add(current, "good"),
  mark_bad: () => marks.add(current, "bad"),
  why: () => openDetails(".why"),
  better: () => openDetails(".better"),
  panes: () => announce(say(panes.toggle() ? "panes" : "noPanes")),
  guidelines: () => toggleGuidelines(say),
  help() {
    listKeys($("help-dialog"), current);
    $("help-dialog").showModal();
  },
};

const marks = new Marks(say, announce);
new Keyboard(page.keys, actions, () => current);

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target.closest("#guidelines-link")) {
    event.preventDefault();
    return actions.guidelines();
  }
  const strength = event.target.closest('input[name="strength"]');
  // A pointer says how much better and is done; with arrows one only looks through the steps, and Enter submits.
  if (strength && current?.isPair && current.isComplete && isFromPointer()) return submit();
  if (!button) return;
  const index = current ? current.cards.indexOf(button.closest(".completion")) : -1;
  const acts = {
    raw: () => current && toggleRaw(current.cards[index]),
    next: () => current?.toggleNextPlace(index) && placed(index),
    skip: actions.skip,
    "not-rankable": () => {
      button.closest("dialog").close();
      actions.not_rankable();
    },
    diff: () => current && actions.diff(),
    "mark-good": () => current && marks.add(current, "good"),
    "mark-bad": () => current && marks.add(current, "bad"),
    undo: actions.undo,
  };
  acts[button.dataset.act]?.();
  if (button.id === "help-button") actions.help();
  if ("close" in button.dataset) (button.closest("dialog") ?? { close: actions.guidelines }).close();
  if (button.dataset.reason) giveReason(button);
});

/* "Another reason" goes into the field for its words, and Enter there gives it. */
function giveReason(button) {
  const dialog = button.closest("dialog");
  const field = dialog.querySelector("input");
  const words = field.value.trim();
  if (isOther(button) && !words) return field.focus();
  field.value = "";
  dialog.close();
  skip(words ? `${button.dataset.reason} · ${words}` : button.dataset.reason);
}

function isOther(button) {
  return button.dataset.reason.endsWith(": other");
}

for (const field of document.querySelectorAll("dialog:has([data-reason]) input")) {
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
    giveReason([...field.closest("dialog").querySelectorAll("[data-reason]")].find(isOther));
  });
}

/* A button for the selected words takes the selection with it, unless it never gets the press. */
document.addEventListener("pointerdown", (event) => event.target.closest(".marking button") && event.preventDefault());
document.addEventListener("mousedown", (event) => event.target.closest(".marking button") && event.preventDefault());

let pointerAt = 0;
document.addEventListener("pointerup", () => (pointerAt = performance.now()), { capture: true });

/* A label passes its click on to its radio, which then looks like one of the keyboard. */
function isFromPointer() {
  return performance.now() - pointerAt < 100;
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches(".comparison")) return;
  event.preventDefault();
  if (event.submitter?.name === "verdict") return pick(event.submitter.value);
  if (event.submitter?.matches(".leave-open")) current?.setStrength(null);
  submit();
});

function noteActivity() {
  current?.noteActivity();
  renewal.noteActivity();
}

for (const type of ["pointermove", "pointerdown", "keydown", "wheel", "scroll", "touchstart", "focusin", "input"]) {
  document.addEventListener(type, noteActivity, { passive: true, capture: true });
}

/* --- every few seconds: leases, and a rest now and then --- */

let workedMs = 0;
setInterval(() => {
  renewLeases();
  if (!current?.tick()) return;
  workedMs += 5_000;
  if (workedMs >= page.breakAfterMinutes * 60_000) {
    workedMs = 0;
    toast(say("break", { n: page.breakAfterMinutes }));
  }
}, 5_000);

/* --- start --- */

async function start() {
  const form = stage.querySelector("form");
  printKeys(document, page.keys, Number(form?.dataset.k ?? 0));
  if (form) {
    const comparison = new Comparison(form);
    const isAnswered = (await outbox.all()).some((entry) => entry.assignment === comparison.id);
    if (!isAnswered && (await leases.claim(comparison.id))) {
      current = comparison;
      renewal.lent(comparison);
      prepare(comparison);
    } else if (!onlyOne) {
      stage.replaceChildren();
    }
  }
  outbox.flush();
  showProblems();
  fetchAhead();
  document.documentElement.dataset.ready = "1";
}

start();
