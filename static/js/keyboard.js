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
    const key = digitOf(event) ?? event.key;
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
    const name = Object.keys(this.actions).find((action) => action in this.keys && is(action));
    const needsComparison = !["help", "guidelines", "undo"].includes(name);
    return name && (comparison || !needsComparison) ? this.actions[name] : null;
  }

  /* In a dialog a digit chooses a reason, a button's own key presses it; Enter closes one that only tells something. */
  #inDialog(event, dialog) {
    const reasons = dialog.querySelectorAll("[data-reason]");
    const digit = Number(digitOf(event) ?? event.key);
    const badges = [...dialog.querySelectorAll("button kbd[data-key]")];
    const badge = badges.find((one) => this.keys[one.dataset.key].toLowerCase() === event.key.toLowerCase());
    const button = (digit && reasons[digit - 1]) || badge?.closest("button");
    if (button) {
      event.preventDefault();
      if (!event.repeat) button.click();
    } else if (event.key === "Enter" && dialog.id === "feedback-dialog" && !event.repeat) {
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

/* Enter and Space press a focused button, arrows move within radios and scroll panes: that is the control's business. */
function isForTheControl(event, target) {
  if (event.key === " ") return true;
  if (event.key === "Enter") return target.matches("button, a, summary");
  if (/^Arrow(Up|Down)$/.test(event.key) && target.matches("[data-pane]")) return true;
  return event.key.startsWith("Arrow") && target.matches("input[type=radio]");
}
