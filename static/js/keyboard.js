/* Keys to actions. Nothing happens while an input method composes, in a text field, or with Ctrl, Alt or Meta. */

const TYPING = "textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=submit])";

export class Keyboard {
  constructor(keys, actions, comparison) {
    this.keys = keys;
    this.actions = actions;
    this.comparison = comparison;
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  #pressed(event) {
    if (event.isComposing || event.keyCode === 229 || event.ctrlKey || event.altKey || event.metaKey) return;
    const target = event.target;
    if (target.matches(TYPING)) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const dialog = document.querySelector("dialog[open]");
    if (dialog) return this.#inDialog(event, dialog);
    if (event.key === "Escape" && !document.getElementById("guidelines-panel").hidden) return this.actions.guidelines();
    if (isForTheControl(event, target)) return;
    const action = this.#find(event);
    if (!action) return;
    event.preventDefault();
    if (!event.repeat) action();
  }

  /* The action a key means, for the comparison on the stage. */
  #find(event) {
    const comparison = this.comparison();
    const key = this.#keyOf(event);
    const is = (action) => this.keys[action].toLowerCase() === key.toLowerCase();
    if (comparison) {
      for (let n = 1; n <= comparison.k; n += 1) {
        if (is(`focus_${n}`) && !(event.shiftKey && isLetter(key))) return () => this.actions.focus(n);
      }
      const most = comparison.isPair ? 4 : comparison.k;
      for (let n = 1; n <= most; n += 1) {
        if (is(`rank_${n}`)) return () => this.actions.rank(n);
      }
    }
    const isMeant = (action) => action in this.keys && (comparison?.isPair || !action.startsWith("pick_"));
    const name = Object.keys(this.actions).find((action) => isMeant(action) && is(action));
    const needsComparison = !["help", "guidelines", "undo"].includes(name);
    return name && (comparison || !needsComparison) ? this.actions[name] : null;
  }

  /* A letter of another script (Cyrillic, Greek, Hebrew) that is nobody's key is the Latin one of its place. */
  #keyOf(event) {
    const key = digitOf(event) ?? event.key;
    const isOwn = Object.values(this.keys).some((own) => own.toLowerCase() === key.toLowerCase());
    const latin = /^Key([A-Z])$/.exec(event.code)?.[1];
    return latin && !isOwn && /^[^\x00-\x7f]$/.test(key) ? latin : key;
  }

  /* In a dialog a digit chooses a reason, a button's own key presses it; Enter closes one that only tells something. */
  #inDialog(event, dialog) {
    const reasons = dialog.querySelectorAll("[data-reason]");
    const key = this.#keyOf(event);
    const badges = [...dialog.querySelectorAll("button kbd[data-key]")];
    const badge = badges.find((one) => this.keys[one.dataset.key].toLowerCase() === key.toLowerCase());
    const button = reasons[key - 1] ?? badge?.closest("button");
    if (button) {
      event.preventDefault();
      if (!event.repeat) button.click();
    } else if (key === "Enter" && dialog.id === "feedback-dialog" && !event.repeat && !event.target.matches("a")) {
      event.preventDefault();
      dialog.close();
    }
  }
}

/* Only letters can name both a completion and an action; some signs take Shift to be typed at all. */
function isLetter(key) {
  return key.length === 1 && key.toLowerCase() !== key.toUpperCase();
}

/* Where a keyboard has its digits on the shifted row (French), the key counts, not the sign. What the numeric pad means
 * without NumLock (arrows, Home, End) has a name and is no sign. */
function digitOf(event) {
  if (event.code.startsWith("Numpad") && event.key.length > 1) return null;
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code)?.[1];
  return digit && !event.shiftKey && !/^[0-9=]$/.test(event.key) ? digit : null;
}

const PRINTED = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Enter: "↵" };

/* Write the person's own keys where the page shows the usual ones; with Shift where a completion has the letter. */
export function printKeys(root, keys, k) {
  const letters = Array.from({ length: k }, (_, n) => keys[`focus_${n + 1}`].toLowerCase());
  for (const element of root.querySelectorAll("kbd[data-key]")) {
    const action = element.dataset.key;
    const isTaken = !action.startsWith("focus_") && letters.includes(keys[action].toLowerCase());
    element.textContent = (isTaken ? "⇧" : "") + (PRINTED[keys[action]] ?? keys[action]);
  }
}

/* Enter and Space press a focused button, arrows move within radios and scroll: that is the control's business. */
function isForTheControl({ key }, target) {
  if (key === " ") return true;
  if (key === "Enter") return target.matches("button, a, summary");
  return key.startsWith("Arrow") && (target.matches("input[type=radio]") || scrolls(target, /Up|Down/.test(key)));
}

/* Whether it, or what it stands in, scrolls that way: a pane, a wide table, the guidelines even before their text has come. */
function scrolls(element, isUpright) {
  for (let one = element; one; one = one.parentElement) {
    const { overflowX, overflowY } = getComputedStyle(one);
    const isLonger = isUpright ? one.scrollHeight > one.clientHeight : one.scrollWidth > one.clientWidth;
    if (isLonger && /auto|scroll/.test(isUpright ? overflowY : overflowX)) return true;
    if (isUpright && one.matches(".side-panel")) return true;
  }
  return false;
}
