/* What can be done on the page, by the name of its key; pointers do the same. */

import { announce, readOut } from "./announcer.js";
import { markWords } from "./marking.js";
import { tell } from "./messages.js";
import { $, say } from "./page.js";
import { toggleGuidelines, toggleRaw } from "./reading.js";

/* All actions, over whatever is on the stage when they are called. */
export function actionsOn({ stage, answers, panes }) {
  const on = (action) => (argument) => action(stage.current, argument);
  const submit = () => answers.submit();
  const pick = (verdict) => on((comparison) => pickVerdict(comparison, verdict, submit));
  const ask = (id) => on((comparison) => (comparison.canBeSkipped ? $(id).showModal() : comparison.isTraining && tell(say("noSkip"))));
  return {
    pick_first: pick("first"),
    pick_second: pick("second"),
    pick_tie: pick("tie"),
    pick_bad: pick("bad"),
    rank: on((comparison, n) => {
      if (!comparison.isPair) sayPlace(comparison, comparison.placeActive(n));
      else if (comparison.verdict && comparison.setStrength(n)) submit();
    }),
    focus: on((comparison, n) => {
      comparison.activate(n - 1);
      readOut(comparison.cards[n - 1].querySelector(".text:not([hidden]), .raw:not([hidden])"), say("goesOn"));
    }),
    tie: on((comparison) => {
      if (comparison.isPair) pickVerdict(comparison, "tie", submit);
      else sayPlace(comparison, comparison.tieWithBefore());
    }),
    strength: on((comparison) => comparison.asksStrength && announce(comparison.nextStrength() ?? say("noStrength"))),
    all_bad: on((comparison) => {
      if (comparison.isPair) return pickVerdict(comparison, "bad", submit);
      comparison.setAllBad(!comparison.allBad);
      announce(say(comparison.allBad ? "allBad" : "notAllBad"));
    }),
    submit,
    undo: on((comparison) => (comparison?.undo() ? announce(say("undone")) : answers.takeBack())),
    skip: ask("skip-dialog"),
    not_rankable: ask("not-rankable-dialog"),
    diff: on(async (comparison) => {
      const differences = await import("./diff.js").catch(() => null);
      if (stage.current !== comparison) return; // answered meanwhile: those would be the texts of another
      if (!differences) return tell(say("noDifferences"));
      const first = comparison.isPair ? 0 : comparison.active;
      differences.showDifferences(comparison, first, (first + 1) % comparison.k);
    }),
    raw: on((comparison) => {
      comparison.cards.forEach(toggleRaw);
      announce(say(comparison.cards[comparison.active].querySelector(".raw").hidden ? "rendered" : "raw"));
    }),
    more: on((comparison) => openDetails(comparison.form, ".is-active .more")),
    mark_good: on((comparison) => markWords(comparison, "good")),
    mark_bad: on((comparison) => markWords(comparison, "bad")),
    why: on((comparison) => openDetails(comparison.form, ".why")),
    better: on((comparison) => openDetails(comparison.form, ".better")),
    panes: () => panes.toggle() && announce(say(panes.isOn ? "panes" : "noPanes")),
    guidelines: toggleGuidelines,
    help: async () => {
      const isShown = await import("./help.js").then(({ showKeys }) => showKeys(stage)).catch(() => false);
      if (!isShown) tell(say("noKeys"));
    },
    // Last, so that whoever has something else on its key keeps that.
    all_tied: on((comparison) => {
      if (comparison.isPair) return pickVerdict(comparison, "tie", submit);
      announce(say(comparison.tieAll() ? "allTied" : "noTies"));
    }),
  };
}

/* Where the pool asks how much better, a pick waits for it: until it is said, left open, or the same is picked again. */
function pickVerdict(comparison, verdict, submit) {
  if (!comparison?.isPair) return;
  const isRepeated = comparison.verdict === verdict;
  if (!comparison.pick(verdict)) return announce(say("noTies"));
  const isStrict = verdict === "first" || verdict === "second";
  const isSaid = comparison.hasStrength && comparison.mode !== "revision";
  if (comparison.asksStrength && isStrict && !isRepeated && !isSaid) announce(say("strength"));
  else submit();
}

function sayPlace(comparison, index) {
  if (index === null) return;
  const [letter, rank] = [comparison.letters[index], comparison.ranks[index]];
  const text = rank === null ? say("unplaced", { letter }) : say("placed", { letter, rank });
  announce(comparison.isComplete ? say("bothSaid", { one: text, other: say("complete") }) : text);
}

function openDetails(form, selector) {
  const details = form.querySelector(selector);
  if (!details) return;
  details.open = !details.open;
  if (details.open) details.querySelector("textarea, input").focus();
  else (details.closest(".completion") ?? details.querySelector("summary")).focus();
}

/* The page's buttons, links and forms do what the keys do. */
export function listenToPointers(stage, actions) {
  const isFromPointer = watchPointer();
  dropSecondClicks(stage);
  const acts = {
    raw: (index) => toggleRaw(stage.current.cards[index]),
    next: (index) => stage.current.toggleNextPlace(index) && sayPlace(stage.current, index),
    skip: actions.skip,
    "not-rankable": actions.not_rankable,
    diff: actions.diff,
    "all-tied": actions.all_tied,
    "mark-good": actions.mark_good,
    "mark-bad": actions.mark_bad,
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("#guidelines-link, #help-link");
    if (link) {
      event.preventDefault();
      return link.id === "help-link" ? actions.help() : actions.guidelines();
    }
    const comparison = stage.current;
    const isStrength = event.target.matches('input[name="strength"]');
    // A pointer says how much better and is done; with arrows one only looks through the steps, and Enter submits.
    if (isStrength && comparison?.isPair && comparison.isComplete && isFromPointer()) return actions.submit();
    const button = event.target.closest("button");
    if (!button) return;
    const { act } = button.dataset;
    if (act === "undo") actions.undo();
    if ("close" in button.dataset || act === "not-rankable") closeAround(button, actions.guidelines);
    if (comparison) acts[act]?.(comparison.cards.indexOf(button.closest(".completion")));
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches(".comparison") || stage.isPlain) return;
    event.preventDefault();
    if (event.submitter?.name === "verdict") return actions[`pick_${event.submitter.value}`]();
    if (event.submitter?.matches(".leave-open")) stage.current?.setStrength(null);
    actions.submit();
  });
}

/* The second click of a double click was meant for what stood there at the first, not for the next comparison. */
function dropSecondClicks(stage) {
  let clickedAt = 0;
  const drop = (event) => {
    const isMeantForAnother = event.detail > 1 && stage.shownAt > clickedAt;
    if (!isMeantForAnother) return (clickedAt = performance.now()); // a third click is as the second
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  document.addEventListener("click", drop, { capture: true });
}

function closeAround(button, closePanel) {
  const dialog = button.closest("dialog");
  if (dialog) dialog.close();
  else closePanel();
}

/* A label passes its click on to its radio, which then looks like one of the keyboard: what counts is a pointer's click
 * just now, which may come long after it was lifted. */
function watchPointer() {
  let at = 0;
  document.addEventListener("click", ({ detail }) => detail && (at = performance.now()), { capture: true });
  return () => performance.now() - at < 100;
}
