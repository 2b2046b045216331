"""The keys of the ranking page: what each action is called, its usual key, and how a person changes it.

A key is named as browsers name it (`KeyboardEvent.key`): "a", "Enter", "ArrowLeft". Where a letter names both an action
and a completion on the page (D is the fourth of four), the completion wins and Shift with the letter does the action.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from string import ascii_lowercase

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from annotate.errors import Refused
from annotate.models import User

MOST_COMPLETIONS = 9

# Action: usual key, label.
ACTIONS = {
    "pick_first": ("ArrowLeft", _("Of two: the first is better")),
    "pick_second": ("ArrowRight", _("Of two: the second is better")),
    "pick_tie": ("ArrowDown", _("Of two: equally good")),
    "pick_bad": ("ArrowUp", _("Of two: both bad")),
    **{
        f"focus_{n}": (ascii_lowercase[n - 1], format_lazy(_("Go to completion {letter}"), letter="ABCDEFGHI"[n - 1]))
        for n in range(1, MOST_COMPLETIONS + 1)
    },
    **{f"rank_{n}": (str(n), format_lazy(_("Rank {n}"), n=n)) for n in range(1, MOST_COMPLETIONS + 1)},
    "tie": ("=", _("Same rank as the one before")),
    "all_tied": ("n", _("All tied: none is better")),
    "all_bad": ("0", _("All bad")),
    "strength": ("t", _("How much better the first is; again for the next step")),
    "submit": ("Enter", _("Submit")),
    "undo": ("u", _("Undo; with nothing to undo: take the last answer back")),
    "skip": ("s", _("Skip, with a reason")),
    "not_rankable": ("x", _("Cannot be ranked, with a reason")),
    "diff": ("d", _("Differences between two completions")),
    "raw": ("r", _("Text as it was written")),
    "panes": ("p", _("Long texts scroll together")),
    "more": ("m", _("Flags and ratings of a completion")),
    "mark_good": ("j", _("Mark the selected words as good")),
    "mark_bad": ("k", _("Mark the selected words as bad")),
    "why": ("w", _("Say why")),
    "better": ("y", _("Write a better answer")),
    "guidelines": ("l", _("Guidelines")),
    "help": ("?", _("All keys")),
}
NAMED_KEYS = {
    *("Enter", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown", "Insert"),
    *("Backspace", "Delete", *(f"F{n}" for n in range(1, 13))),
}
PRINTED = {"ArrowLeft": "←", "ArrowRight": "→", "ArrowUp": "↑", "ArrowDown": "↓", "Enter": "↵"}
# How the page's own list groups them; whatever is in neither of the two answers.
READING = {"diff", "raw", "panes", "guidelines", "help"}
SAYING_MORE = {"strength", "more", "mark_good", "mark_bad", "why", "better"}
# Actions that differ by their number alone stand in one row there.
SERIES = {"focus": _("Go to that completion"), "rank": _("Give the marked completion that rank")}
# These may share a letter with an action: the completion wins, and Shift does the action.
FOCUS = {f"focus_{n}" for n in range(1, MOST_COMPLETIONS + 1)}


class WrongKeys(Refused):
    code = "wrong_keys"


def keys_of(user: User) -> dict[str, str]:
    """Key by action: the usual ones, and the person's own."""
    return {action: user.keys.get(action, usual) for action, (usual, _label) in ACTIONS.items()}


def key_table(user: User) -> list[tuple[str, str, str]]:
    """(action, key as printed, label) of every action."""
    return [(action, PRINTED.get(key, key), ACTIONS[action][1]) for action, key in keys_of(user).items()]


def key_groups(user: User) -> list[tuple[str, list[tuple[list[tuple[str, str]], str]]]]:
    """The page's own list under three headings: rows of ((action, key as printed) of each key, label)."""
    groups = (
        (_("Answer"), ACTIONS.keys() - READING - SAYING_MORE),
        (_("Say more"), SAYING_MORE),
        (_("Read"), READING),
    )
    table = key_table(user)
    return [(title, list(rows_of([row for row in table if row[0] in actions]))) for title, actions in groups]


def rows_of(table: list[tuple[str, str, str]]) -> Iterator[tuple[list[tuple[str, str]], str]]:
    for name, rows in groupby(table, lambda row: row[0].rstrip("_123456789")):
        keys = list(rows)
        yield [(action, key) for action, key, _label in keys], SERIES.get(name, keys[0][2])


def change_keys(*, user: User, chosen: Mapping[str, str]) -> None:
    """Keep the keys that differ from the usual ones. Raises WrongKeys where one is no key, or could not be reached."""
    keys = {action: chosen.get(action, "").strip() or usual for action, (usual, _label) in ACTIONS.items()}
    for key in keys.values():
        if len(key) != 1 and key not in NAMED_KEYS:
            raise WrongKeys(_("“{key}” is not the name of a key.").format(key=key))
    actions = ACTIONS.keys() - FOCUS
    for key in {keys[action] for action in FOCUS} & {keys[action] for action in actions}:
        if not is_letter(key):
            raise WrongKeys(
                _("The key “{key}” would name both a completion and an action; only a letter can.").format(key=key)
            )
    for group in (FOCUS, actions):
        used = [keys[action].lower() for action in group]
        for key in used:
            if used.count(key) > 1:
                raise WrongKeys(_("The key “{key}” would do two things.").format(key=key))
    user.keys = {action: key for action, key in keys.items() if key != ACTIONS[action][0]}
    user.save(update_fields=["keys"])


def is_letter(key: str) -> bool:
    """Whether Shift makes another sign of it, on every keyboard the same."""
    return len(key) == 1 and key.lower() != key.upper()
