"""An answer as the page's plain form sends it, without any script."""

from collections.abc import Iterator
from string import ascii_uppercase

from django.http import QueryDict
from django.utils.translation import gettext as _

from annotate.labels import AXES, CHIPS, FLAGS, STRENGTHS, labelled
from annotate.models import Assignment
from annotate.ranking import in_letters
from annotate.services.rankings import Answer

# A pair's four buttons: the ranks of the first and the second completion shown, and whether both are bad.
VERDICTS = {"first": (1, 2, False), "second": (2, 1, False), "tie": (1, 1, False), "bad": (1, 1, True)}


def answer_from_form(data: QueryDict, order: list[int]) -> Answer:
    """Read what was filled in; what is missing or no number is left out here, and the service says so.

    `order` are the completions as shown.
    """
    ranks = {key: rank for key in order if (rank := number(data.get(f"rank-{key}"))) is not None}
    all_bad = "all_bad" in data
    if data.get("verdict") in VERDICTS and len(order) == 2:
        first, second, all_bad = VERDICTS[data["verdict"]]
        ranks = dict(zip(order, (first, second), strict=True))
    elif all_bad and len(ranks) < len(order):
        ranks = {}
    return Answer(
        ranks=ranks,
        all_bad=all_bad,
        flags={key: flags for key in order if (flags := data.getlist(f"flag-{key}"))},
        axes={key: axes for key in order if (axes := ratings(data, f"axis-{key}-"))},
        strength=number(data.get("strength")),
        rationale=text(data.get("rationale", "")),
        chips=data.getlist("chip"),
        better_answer=text(data.get("better_answer", "")),
    )


def reason_to_leave(data: QueryDict) -> str:
    """Why it is skipped or cannot be ranked, as the page's script writes it; empty where it is not left.

    Words without a reason, or the button without either, are another reason to skip it, and never an answer.
    """
    reason, words = data.get("leave", ""), text(data.get("leave_words", "")).strip()
    if not reason and (words or "leave_it" in data):
        reason = "skip: other"
    return f"{reason} · {words}" if words else reason


def verdict_of(answer: Answer, order: list[int]) -> str | None:
    """Which of a pair's buttons says what this answer says; `order` are the completions as shown."""
    said = (1, 1, True) if answer.all_bad else (*map(answer.ranks.get, order), False)
    return next((verdict for verdict, means in VERDICTS.items() if means == said), None)


def words_of(data: QueryDict, assignment: Assignment) -> str:
    """What was said in a form that cannot be sent again: to be copied, as in the problem dialog."""
    order, pool = assignment.order, assignment.comparison.pool
    answer = answer_from_form(data, order)
    place = _("all bad") if answer.all_bad else in_letters(answer.ranks, order)
    chosen = "\n".join(choices_of(answer, order, pool.strength_scale))
    words = (answer.rationale, answer.better_answer, place, chosen, reason_to_leave(data))
    return "\n\n".join(filter(None, words))


def choices_of(answer: Answer, order: list[int], strength_scale: int) -> Iterator[str]:
    """Flags, ratings, reasons and strength as the form's labels say them: "B Flags untrue", "B helpful 4"."""
    for letter, key in zip(ascii_uppercase, order, strict=False):
        for _code, label in labelled(answer.flags.get(key, []), FLAGS):
            yield f"{letter} {_('Flags')} {label}"
        ratings = answer.axes.get(key, {})
        for code, label in labelled(list(ratings), AXES):
            yield f"{letter} {label} {ratings[code]}"
    for _code, label in labelled(answer.chips, CHIPS):
        yield label
    steps = dict(enumerate(STRENGTHS.get(strength_scale, []), start=1))
    if answer.strength in steps:
        yield f"{_('How much better?')} {steps[answer.strength]}"


def ratings(data: QueryDict, prefix: str) -> dict[str, int]:
    found = {name.removeprefix(prefix): number(data[name]) for name in data if name.startswith(prefix)}
    return {axis: rating for axis, rating in found.items() if rating is not None}


def text(value: str) -> str:
    """As the page's script would send it: a browser's form ends its lines with CR LF."""
    return value.replace("\r\n", "\n")


def number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 4 else None
