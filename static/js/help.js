/* The list of keys: those alone that do something with the comparison on the stage. Fetched when it is asked for. */

/* All keys, where there is no comparison. */
export function listKeys(dialog, comparison) {
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
    strength: () => asksStrength && !isPair,
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
