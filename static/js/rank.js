/* The ranking page: one comparison on the stage, two fetched ahead, answers in the outbox.
 *
 * A browser may have several tabs open. Each tab holds a Web Lock for every comparison it has; a tab that closes or
 * crashes lets go of them by itself, and the server hands those comparisons out again (`holding`).
 */

import { Comparison } from "./comparison.js";
import { Outbox, csrfToken } from "./outbox.js";
import { Keyboard, printKeys } from "./keyboard.js";
import { Marks } from "./marks.js";

const AHEAD = 2;
const LOCK = "whetstone-comparison-";
const TOAST_MS = 6_000;
const AS_FRAGMENT = { headers: { "HX-Request": "true" } }; // the views answer htmx and this page with the same partial

const page = JSON.parse(document.getElementById("page-data").textContent);
const say = (name, values = {}) => page.strings[name].replace(/\{(\w+)\}/g, (_all, key) => values[key]);
const $ = (id) => document.getElementById(id);
const stage = $("stage");
const onlyOne = stage.dataset.only === "1"; // the page that corrects one answer

const outbox = new Outbox(page);
const releases = new Map();
const ahead = [];
const answered = [];
let current = null;
let trained = null; // a training answer on its way, whose feedback comes before the next comparison
let isFetching = false;
let isSending = false;
let retryMs = 0;
let sitting = 0;
let toastTimer = 0;

/* --- which comparisons this browser has --- */

function claim(id) {
  if (!navigator.locks) return Promise.resolve(!releases.has(id) && Boolean(releases.set(id, () => {})));
  return new Promise((resolve) => {
    navigator.locks.request(LOCK + id, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(false);
      resolve(true);
      return new Promise((release) => releases.set(id, release));
    });
  });
}

function letGo(id) {
  releases.get(id)?.();
  releases.delete(id);
}

async function heldHere() {
  const ids = new Set(releases.keys());
  for (const lock of (await navigator.locks?.query())?.held ?? []) {
    if (lock.name.startsWith(LOCK)) ids.add(Number(lock.name.slice(LOCK.length)));
  }
  for (const entry of await outbox.all()) ids.add(entry.assignment);
  return ids;
}

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
      if (!(await claim(comparison.id))) continue;
      comparison.staleAt = performance.now() + Number(form.dataset.seconds) * 1000;
      ahead.push(comparison);
      if (!current && !isSending && !trained) showNext();
    }
  } finally {
    isFetching = false;
  }
}

async function fetchNext() {
  const body = new URLSearchParams();
  for (const id of await heldHere()) body.append("holding", id);
  if (page.pool) body.append("pool", page.pool);
  let response;
  try {
    response = await fetch(page.urls.next, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken() },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(20_000),
    });
  } catch {
    return fetchLater();
  }
  if (response.type === "opaqueredirect" || response.status === 403) {
    showSignedOut();
    return fetchLater();
  }
  if (!response.ok) return fetchLater();
  const node = fragment(await response.text()).firstElementChild;
  if (node.matches("form")) return node;
  if (!current && !ahead.length && !stage.querySelector("[data-nothing]")) stage.replaceChildren(node);
  return fetchLater();
}

function fetchLater() {
  retryMs = Math.min(retryMs * 2 || 2_000, 15_000);
  setTimeout(fetchAhead, retryMs);
  return null;
}

function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return document.importNode(template.content, true);
}

/* --- the stage --- */

function showNext() {
  let next = ahead.shift();
  while (next && next.staleAt < performance.now()) {
    letGo(next.id); // its lease is about to end: the server hands it back renewed
    next = ahead.shift();
  }
  current = null;
  if (next) show(next);
  else stage.replaceChildren();
  fetchAhead();
}

function show(comparison) {
  current = comparison;
  printKeys(comparison.form, page.keys);
  stage.replaceChildren(comparison.form);
  scrollTo(0, 0);
  stage.querySelector("h1").focus({ preventScroll: true });
  comparison.shown();
  marks.show(comparison);
  const link = $("guidelines-link");
  link.hidden = !comparison.form.dataset.guidelines;
  link.href = comparison.form.dataset.guidelines;
}

function announce(text) {
  $("announcer").textContent = text;
}

function toast(text, canUndo = false) {
  const element = $("toast");
  element.firstElementChild.textContent = text;
  element.querySelector("button").hidden = !canUndo;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (element.hidden = true), TOAST_MS);
}

/* --- answering --- */

async function submit() {
  const comparison = current;
  if (!comparison || isSending) return;
  if (!comparison.isComplete) {
    comparison.activate(Math.max(0, comparison.ranks.indexOf(null)));
    announce(say("incomplete"));
    return;
  }
  const answer = comparison.answer();
  const body = comparison.mode === "revision" ? answer : { token: comparison.form.dataset.token, ...answer };
  if (!(await keep(comparison, comparison.mode, body)) || onlyOne) return;
  if (!comparison.isTraining) answered.push(comparison);
  answered.splice(0, answered.length - 10);
  sitting += 1;
  const text = say("sent", { n: sitting });
  announce(text);
  toast(text, !comparison.isTraining);
}

async function skip(reason) {
  const comparison = current;
  if (!comparison || isSending || comparison.mode === "revision") return;
  const body = { token: comparison.form.dataset.token, reason: reason.slice(0, 200) };
  if (await keep(comparison, "skip", body)) toast(say("skipped"));
}

/* Put it into the outbox, and only then leave the comparison. Returns whether it is kept. */
async function keep(comparison, kind, body) {
  isSending = true;
  performance.mark("whetstone-answer");
  try {
    await outbox.add({ assignment: comparison.id, kind, body });
  } catch {
    notice(say("notKept"));
    return false;
  } finally {
    isSending = false;
  }
  letGo(comparison.id);
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

function takeBack() {
  const comparison = answered.pop();
  if (!comparison || onlyOne) return announce(say("nothingToTakeBack"));
  $("toast").hidden = true;
  if (current?.mode === "ranking") ahead.unshift(current);
  comparison.mode = "revision";
  show(comparison);
  toast(say("takenBack"));
  announce(say("takenBack"));
}

outbox.addEventListener("change", ({ detail: { waiting, state } }) => {
  $("saved").textContent = waiting ? say("waiting", { n: waiting }) : say("saved");
  $("saved").classList.toggle("is-waiting", waiting > 0);
  if (state === "signed out") showSignedOut(waiting);
  else if (state === "offline" && waiting) notice(say("offline", { n: waiting }));
  else notice("");
});

outbox.addEventListener("sent", ({ detail: entry }) => {
  if (onlyOne) location.assign(page.urls.work);
  else if (trained?.id === entry.assignment) showFeedback(trained);
  fetchAhead();
});

outbox.addEventListener("problem", ({ detail: entry }) => {
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
  const { rationale, better_answer: better, ranks, reason } = problem.body;
  dialog.querySelector(".problem-reason").textContent = problem.problem.detail;
  const ranked = ranks && Object.keys(ranks).length ? JSON.stringify(ranks) : "";
  dialog.querySelector(".problem-text").value = [rationale, better, ranked, reason].filter(Boolean).join("\n\n");
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

/* --- reading --- */

function toggleRaw(index) {
  const card = current.cards[index];
  const isRaw = card.querySelector(".raw").toggleAttribute("hidden");
  card.querySelector(".text").hidden = !isRaw;
  card.querySelector('[data-act="raw"]').setAttribute("aria-pressed", String(!isRaw));
}

async function compare(first, second) {
  const { showDiff } = await import("./diff.js");
  const dialog = $("diff-dialog");
  const rawOf = (index) => current.cards[index].querySelector(".raw").textContent;
  const kind = showDiff(dialog.querySelector(".diff-text"), rawOf(first), rawOf(second));
  const note = dialog.querySelector(".diff-note");
  note.textContent = kind === "same" ? say("same") : kind === "lines" ? say("diffTooLong") : "";
  dialog.querySelector(".diff-choice").replaceChildren(
    ...current.letters.flatMap((letter, index) => {
      if (index === first) return [];
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${current.letters[first]} → ${letter}`;
      button.setAttribute("aria-pressed", String(index === second));
      button.addEventListener("click", () => compare(first, index));
      return [button];
    }),
  );
  if (!dialog.open) dialog.showModal();
}

async function toggleGuidelines() {
  const panel = $("guidelines-panel");
  panel.hidden = !panel.hidden;
  if (panel.hidden) return $("guidelines-link").focus();
  const url = $("guidelines-link").href;
  if (panel.dataset.url !== url) {
    const response = await fetch(url, AS_FRAGMENT).catch(() => null);
    if (!response?.ok) return;
    panel.querySelector(".text").replaceChildren(fragment(await response.text()));
    panel.dataset.url = url;
  }
  panel.focus();
}

function openDetails(selector, inside = current.form) {
  const details = inside.querySelector(selector);
  if (!details) return;
  details.open = !details.open;
  (details.open ? details.querySelector("textarea, input") : inside.querySelector("h1"))?.focus();
}

function askReason(id) {
  if (current && current.mode !== "revision") $(id).showModal();
}

/* --- what keys and pointers do --- */

const placed = (index) =>
  index !== null && announce(say("placed", { letter: current.letters[index], rank: current.ranks[index] }));

const pick = (verdict) => {
  if (!current.isPair) return;
  if (!current.pick(verdict)) return announce(say("noTies"));
  if (!current.asksStrength || verdict === "tie" || verdict === "bad") return submit();
  announce(say("strength"));
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
  all_bad() {
    if (current.isPair) return pick("bad");
    current.setAllBad(!current.allBad);
    announce(say(current.allBad ? "allBad" : "notAllBad"));
  },
  submit,
  undo: () => (current?.undo() ? announce(say("undone")) : takeBack()),
  skip: () => askReason("skip-dialog"),
  not_rankable: () => askReason("not-rankable-dialog"),
  diff: () => compare(current.isPair ? 0 : current.active, current.isPair ? 1 : (current.active + 1) % current.k),
  raw: () => current.cards.forEach((_card, index) => toggleRaw(index)),
  more: () => openDetails(".more", current.cards[current.active]),
  mark_good: () => marks.add(current, "good"),
  mark_bad: () => marks.add(current, "bad"),
  why: () => openDetails(".why"),
  better: () => openDetails(".better"),
  guidelines: toggleGuidelines,
  help: () => $("help-dialog").showModal(),
};

const marks = new Marks(say, announce);
new Keyboard(page.keys, actions, () => current);

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target.closest("#guidelines-link")) {
    event.preventDefault();
    return toggleGuidelines();
  }
  if (!button) return;
  const index = current ? current.cards.indexOf(button.closest(".completion")) : -1;
  const acts = {
    raw: () => current && toggleRaw(index),
    next: () => current?.toggleNextPlace(index),
    skip: actions.skip,
    "take-back": takeBack,
  };
  acts[button.dataset.act]?.();
  if (button.id === "help-button") actions.help();
  if ("close" in button.dataset) (button.closest("dialog") ?? { close: toggleGuidelines }).close();
  if (button.dataset.reason) {
    const dialog = button.closest("dialog");
    const words = dialog.querySelector("input").value.trim();
    dialog.querySelector("input").value = "";
    dialog.close();
    skip(words ? `${button.dataset.reason} · ${words}` : button.dataset.reason);
  }
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches(".comparison")) return;
  event.preventDefault();
  if (event.submitter?.name === "verdict") pick(event.submitter.value);
  else submit();
});

for (const type of ["pointermove", "pointerdown", "keydown", "scroll", "touchstart"]) {
  document.addEventListener(type, () => current?.noteActivity(), { passive: true, capture: true });
}

/* --- a rest now and then --- */

let workedMs = 0;
setInterval(() => {
  if (!current?.tick()) return;
  workedMs += 5_000;
  if (workedMs >= page.breakAfterMinutes * 60_000) {
    workedMs = 0;
    toast(say("break", { n: page.breakAfterMinutes }));
  }
}, 5_000);

/* --- start --- */

async function start() {
  printKeys(document, page.keys);
  const form = stage.querySelector("form");
  if (form) {
    const comparison = new Comparison(form);
    const isAnswered = (await outbox.all()).some((entry) => entry.assignment === comparison.id);
    if (!isAnswered && (await claim(comparison.id))) {
      current = comparison;
      comparison.shown();
      marks.show(comparison);
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
