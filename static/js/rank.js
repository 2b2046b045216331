/* The ranking page: one comparison on the stage, two fetched ahead, answers in the outbox. Here the parts meet. */

import { actionsOn, listenToPointers } from "./actions.js";
import { Ahead } from "./ahead.js";
import { announce } from "./announcer.js";
import { Answers } from "./answers.js";
import { closeOnBack } from "./back.js";
import { Comparison } from "./comparison.js";
import { Drafts } from "./drafts.js";
import { noteActivity } from "./effort.js";
import { fillCards } from "./fragments.js";
import { Keyboard, printKeys } from "./keyboard.js";
import { Leases } from "./leases.js";
import { showMarks } from "./marking.js";
import { notice, tell } from "./messages.js";
import { Outbox } from "./outbox.js";
import { $, page, say } from "./page.js";
import { Panes } from "./panes.js";
import { offerGuidelines, openPrompts } from "./reading.js";
import { askForReasons } from "./reasons.js";
import { Renewal } from "./renewal.js";
import { noteWork } from "./rest.js";
import { Stage, showBeginning } from "./stage.js";

const AHEAD = 2;
const TICK_MS = 5_000;
const AWAY_SECONDS = 30;
const OF_A_LEASE = new Set(["stale_lease", "already_answered"]);
const ACTIVITY = ["pointermove", "pointerdown", "keydown", "wheel", "scroll", "touchstart", "focusin", "input"];

const stage = new Stage();
const outbox = new Outbox(page);
const leases = new Leases(outbox);
const renewal = new Renewal(page.urls.renewal);
const drafts = new Drafts(page.user, () => stage.current);
const ahead = new Ahead(leases, renewal, stage.onlyOne ? 0 : AHEAD);
const answers = new Answers({ stage, ahead, outbox, leases, drafts });
const panes = new Panes($("main"), $("panes-button"));
const actions = actionsOn({ stage, answers, panes });

new Keyboard(page.keys, actions, () => stage.current);
listenToPointers(stage, actions);
askForReasons((reason) => answers.skip(reason));
closeOnBack();
openPrompts();

/* --- the comparison on the stage, and those that come after it --- */

/* What gets the focus is scrolled out from under the bar, as high as that is. */
const bars = new ResizeObserver(([{ target }]) => {
  document.documentElement.style.setProperty("--foot", `${target.offsetHeight}px`);
});

/* What was begun on it comes back, its clock starts, its keys, guidelines, marks and panes are drawn. */
stage.addEventListener("shown", ({ detail: comparison }) => {
  printKeys(document, page.keys, comparison.k);
  $("diff-button").hidden = $("panes-button").hidden = false;
  if (drafts.restore(comparison)) tell(say("restored"));
  showBeginning(comparison);
  offerGuidelines(comparison.form.dataset.guidelines);
  comparison.shown();
  comparison.addEventListener("change", drawUndo);
  drawUndo();
  drawOutcome();
  showMarks(comparison);
  panes.show(comparison);
  bars.disconnect();
  bars.observe(comparison.form.querySelector(".bar"));
});

stage.addEventListener("empty", () => {
  printKeys(stage.element, page.keys, 0);
  $("diff-button").hidden = $("panes-button").hidden = true;
  drawUndo();
});

answers.addEventListener("change", drawUndo);

function drawUndo() {
  const button = stage.element.querySelector('[data-act="undo"]');
  button?.setAttribute("aria-disabled", String(!stage.current?.canUndo && !answers.canTakeBack));
}

let isShutOut = false; // as far as the next comparisons go

ahead.addEventListener("come", () => {
  letIn();
  if (stage.isFree && !answers.isSending) answers.showNext();
});
ahead.addEventListener("none", ({ detail: words }) => {
  letIn();
  stage.showNone(words);
});
ahead.addEventListener("unreachable", () => stage.showUnreachable());
ahead.addEventListener("signed out", () => shutOut("noticeSignedOut"));
ahead.addEventListener("forbidden", () => shutOut("noticeForbidden"));

function shutOut(name) {
  isShutOut = true;
  noticeTrouble(name);
}

let troubles = 0;

function noticeTrouble(name, n) {
  const own = ++troubles;
  import("./trouble.js").then((trouble) => own === troubles && trouble[name](outbox, n), () => {}); // the next time
}

/* The server knows the person again: what waits is sent, which also takes the notice away. */
function letIn() {
  if (isShutOut) outbox.flush();
  isShutOut = false;
}

/* --- what becomes of the answers --- */

let outcome = ""; // of what was done last: "saved", or "skipped" for as long as that can be taken back
let unsent = 0;
let skips = 0;

/* "Saved" would seem to be of the answer that is being corrected. */
function drawOutcome() {
  if (stage.current?.mode === "revision") outcome = "";
  $("saved").textContent = unsent ? say("waiting", { n: unsent }) : outcome && say(outcome);
  $("saved").classList.toggle("is-waiting", unsent > 0);
}

outbox.addEventListener("change", ({ detail: { waiting, held, aside, state } }) => {
  if (waiting) outcome = "saved"; // as soon as nothing waits
  else if (held > skips) outcome = "skipped";
  else if (held === 0 && outcome === "skipped") outcome = "";
  skips = held;
  unsent = waiting;
  drawOutcome();
  if (state === "signed out") return noticeTrouble("noticeSignedOut");
  if (state === "forbidden") return noticeTrouble("noticeForbidden");
  if (aside && !(state === "offline" && waiting)) return noticeTrouble("noticeAside", aside);
  if (isShutOut) return; // what that says holds until comparisons come again
  troubles += 1; // none that would still be on its way
  if (state === "offline" && waiting) notice(say("offline", { n: waiting }));
  else {
    if (!waiting && !$("notice").hidden) announce(say("saved")); // a trouble is over
    notice("");
  }
});

outbox.addEventListener("sent", ({ detail: entry }) => {
  outcome = "saved";
  if (entry.kind === "skip") answers.forgetSkip(entry.assignment);
  if (stage.awaited?.id === entry.assignment) arrived(stage.awaited);
  ahead.fill();
});

/* Training goes on without this feedback; a correction waits where it is. */
outbox.addEventListener("aside", ({ detail: entry }) => {
  if (stage.awaited?.id === entry.assignment && !stage.onlyOne) goOn();
});

outbox.addEventListener("problem", ({ detail: entry }) => {
  outcome = "";
  const isAwaited = stage.awaited?.id === entry.assignment;
  if (!entry.isElsewhere || isAwaited) showProblems();
  if (OF_A_LEASE.has(entry.problem.code)) lookAfterLeases(); // the others are hardly any better
  if (isAwaited) goOn();
});

async function arrived(comparison) {
  if (stage.onlyOne) return location.assign(stage.back);
  const isTold = await import("./replies.js").then(({ showFeedback }) => showFeedback(comparison)).catch(() => false);
  goOn();
  if (!isTold) tell(say("noFeedback"));
}

async function showProblems() {
  const [first] = await outbox.problems();
  if (first) await import("./replies.js").then((replies) => replies.showProblems(outbox), () => tell(first.problem.detail));
}

function goOn() {
  const corrected = stage.onlyOne && stage.awaited; // and refused: it can be corrected otherwise
  stage.awaited = null;
  if (corrected) stage.adopt(corrected);
  else answers.showNext();
}

/* --- time: activity, leases, and a rest now and then --- */

function somethingIsDone() {
  if (renewal.secondsIdle > AWAY_SECONDS) lookAfterLeases();
  tick();
  noteActivity();
  renewal.noteActivity();
}

function tick() {
  return stage.current?.effort.tick() ?? false;
}

for (const type of ACTIVITY) document.addEventListener(type, somethingIsDone, { passive: true, capture: true });
document.addEventListener("visibilitychange", tick);

/* Say on the server that somebody is at work here; and here, at once, what was lent to somebody else meanwhile. */
const renewLeases = () => giveUpLost((held) => renewal.renew(held));

/* The same, whatever the leases' time: after a while something may have been done on another device. */
const lookAfterLeases = () => giveUpLost((held) => renewal.renewNow(held));

async function giveUpLost(renew) {
  const lost = await renew([stage.current, ...ahead.comparisons].filter((one) => one?.mode === "ranking"));
  const isLost = (one) => lost.includes(one) && one.mode === "ranking"; // not answered while the server was asked
  const lostAhead = ahead.comparisons.filter(isLost);
  lostAhead.forEach((comparison) => ahead.drop(comparison));
  for (const comparison of lostAhead) await answers.keepWords(comparison);
  if (isLost(stage.current) && !answers.isSending) await answers.giveUp(stage.current);
  if (lost.length) showProblems();
}

setInterval(() => {
  renewLeases();
  if (tick()) noteWork(TICK_MS);
}, TICK_MS);

/* --- start --- */

/* WebKit keeps a page as it was while one is elsewhere, but not its locks: what it shows may be answered by then. */
addEventListener("pageshow", ({ persisted }) => {
  if (!persisted || !navigator.onLine) return;
  stage.current = null; // its draft was kept when one left, and may have grown elsewhere
  location.reload();
});

/* What the server drew is this tab's, unless it was answered already or another tab has it. An answer can be corrected
 * in two tabs at once; while a correction of it waits in the outbox, it waits as well. */
async function begin(form) {
  const comparison = new Comparison(form);
  const entries = stage.onlyOne ? await outbox.waiting() : await outbox.all(); // refused, it can be corrected otherwise
  const entry = entries.find((one) => one.assignment === comparison.id);
  if (!entry && ((await leases.claim(comparison.id)) || stage.onlyOne)) {
    renewal.lent(comparison);
    stage.adopt(comparison);
  } else if (stage.onlyOne || (comparison.isTraining && entry && outbox.isOnItsWay(entry))) {
    stage.awaited = comparison;
  } else {
    stage.clear();
  }
}

/* A correction that was begun comes first, and then what the server drew. */
async function goOnWithCorrection(form) {
  const correction = await import("./begun.js")
    .then(({ begunCorrection }) => begunCorrection({ drafts, outbox, leases }))
    .catch(() => null); // it is still there the next time
  if (form) await begin(form);
  if (!correction) return;
  if (stage.current) ahead.putBack(stage.current);
  stage.show(correction);
}

/* Before any more comparisons are fetched: those that are this person's again come first. */
async function keepLostWords() {
  await import("./begun.js").then((begun) => begun.keepLostWords({ drafts, outbox, leases, renewal })).catch(() => {});
}

const form = stage.element.querySelector("form");
printKeys(document, page.keys, Number(form?.dataset.k ?? 0));
if (await outbox.opens()) {
  if (!stage.onlyOne && drafts.begunCorrection) await goOnWithCorrection(form);
  else if (form) await begin(form);
  outbox.flush();
  if (!stage.onlyOne && drafts.begunAnswers.length) await keepLostWords();
  showProblems();
  ahead.fill();
} else {
  stage.isPlain = true;
  if (form) fillCards(form);
  notice(say("plain"));
}
document.documentElement.dataset.ready = "1";
