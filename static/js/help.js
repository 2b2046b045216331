/* The list of keys: those alone that do something with the comparison on the stage. Fetched when it is asked for. */

import { AS_FRAGMENT, fragment } from "./fragments.js";
import { printKeys } from "./keyboard.js";
import { $, page } from "./page.js";
import { ask } from "./server.js";

let asked = null; // for the dialog, which stays once it is there

/* Returns false where the list cannot be had. One that comes late lies over no other comparison. */
export async function showKeys(stage) {
  const { current } = stage;
  const dialog = await (asked ??= fetched());
  if (!dialog) return false;
  if (stage.current !== current) return true;
  printKeys(dialog, page.keys, stage.current?.k ?? 0);
  listKeys(dialog, stage.current);
  if (!dialog.open) dialog.showModal();
  return true;
}

async function fetched() {
  try {
    const response = await ask($("help-link").href, { ...AS_FRAGMENT, signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(response.status);
    $("stage").after(fragment(await response.text()));
    return $("help-dialog");
  } catch {
    return (asked = null); // asked for again the next time
  }
}

/* All keys, where there is no comparison. */
function listKeys(dialog, comparison) {
  const isUsed = (kbd) => !comparison || uses(comparison, kbd.dataset.key);
  for (const kbd of dialog.querySelectorAll("kbd[data-key]")) kbd.hidden = !isUsed(kbd);
  for (const part of dialog.querySelectorAll("tbody, tbody tr:has(kbd)")) part.hidden = !part.querySelector("kbd:not([hidden])");
  dialog.querySelector(".of-ranks").hidden = comparison?.isPair ?? false;
}

/* Whether an action of the keyboard means anything here. */
function uses({ form, k, isPair, tiesAllowed, asksStrength, canBeSkipped }, action) {
  const [name, n] = action.split(/_(?=\d)/);
  const isThere = (selector) => form.querySelector(selector) !== null;
  const conditions = {
    focus: () => n <= k,
    rank: () => n <= k && !isPair,
    tie: () => tiesAllowed && !isPair,
    all_tied: () => tiesAllowed && !isPair,
    pick_tie: () => tiesAllowed && isPair,
    ...Object.fromEntries(["pick_first", "pick_second", "pick_bad"].map((pick) => [pick, () => isPair])),
    all_bad: () => !isPair,
    strength: () => asksStrength,
    skip: () => canBeSkipped,
    not_rankable: () => canBeSkipped,
    more: () => isThere(".more"),
    mark_good: () => isThere(".marking"),
    mark_bad: () => isThere(".marking"),
    why: () => isThere(".why"),
    better: () => isThere(".better"),
  };
  return conditions[name]?.() ?? true;
}
