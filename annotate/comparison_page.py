"""A comparison as its annotator sees it: rendered texts in the shuffled order, the questions its pool asks, no names.

comparison_page(assignment)                  a new one
comparison_page(assignment, in_full=True)    the same without a script, each completion with all that is asked of it
comparison_page(assignment, given=ranking)   the annotator's own answer, to be corrected; in full
comparison_page(…, said=answer)              what a form that was refused said, to be gone on with; in full

What was said is there also where the pool no longer asks it: what a correction does not say is taken back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from string import ascii_lowercase
from typing import Any

from django.utils.crypto import get_random_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from annotate.answer_form import verdict_of
from annotate.labels import AXES, CHIPS, FLAGS, SPEAKERS, STRENGTHS, VERDICTS, labelled
from annotate.models import Assignment, Completion, PromptPool, Ranking
from annotate.rendering import raw, rendered
from annotate.selectors import better_answer, completions_as_shown
from annotate.services.rankings import Answer

# Of a longer conversation the older messages are folded away, and open with a click.
TURNS_SHOWN = 3
BEGINNING = 60  # characters of the last message, for a line


@dataclass(frozen=True)
class Turn:
    speaker: str
    role: str
    html: SafeString


@dataclass(frozen=True)
class CompletionOnPage:
    """Its numbers are texts: a template asks of each number how the language writes it, which is slow, and no id is."""

    id: str
    flags: list[tuple[str, str, bool]]  # code, label, is set
    axes: list[tuple[str, str, int | None]]  # code, label, rating
    letter: str = ""
    html: SafeString = SafeString()
    raw: SafeString = SafeString()
    is_cut: bool = False
    names_its_model: bool = False
    rank: str | None = None

    @property
    def asks_more(self) -> bool:
        return bool(self.flags or self.axes)

    @property
    def says_more(self) -> bool:
        return any(is_set for _code, _label, is_set in self.flags) or any(rating for _code, _label, rating in self.axes)


def comparison_page(
    assignment: Assignment, *, given: Ranking | None = None, said: Answer | None = None, in_full: bool = False
) -> dict[str, Any]:
    """What `rank.html#comparison` shows."""
    in_full = in_full or bool(given or said)  # a page that leads to itself would lose what was said
    said = said or (answer_of(given) if given else Answer())
    comparison, pool = assignment.comparison, assignment.comparison.pool
    turns = [
        Turn(SPEAKERS.get(m["role"], m["role"]), m["role"], rendered(m["content"])) for m in comparison.prompt.messages
    ]
    k, each = len(assignment.order), any_completion(pool, said)
    chips = labelled([*pool.rationale_chips, *said.chips], CHIPS)
    return {
        "assignment": assignment,
        "pool": pool,
        "language": comparison.prompt.language,
        "earlier_turns": turns[:-TURNS_SHOWN],
        "turns": turns[-TURNS_SHOWN:],
        "beginning": beginning_of(comparison.prompt.messages[-1]["content"]),
        "completions": list(completions_on_page(assignment, each, said)),
        "in_full": in_full,
        "each": each,
        "k": k,
        "is_pair": k == 2,
        "ranks": [str(rank) for rank in range(1, k + 1)],
        "is_training": comparison.kind == comparison.Kind.TRAINING,
        "verdicts": list(verdicts_on_page(pool, verdict_of(said, assignment.order))) if k == 2 else [],
        "strengths": list(enumerate(strengths_on_page(pool, said), start=1)),
        "chips": [(code, label, code in said.chips) for code, label in chips],
        "asks_rationale": pool.asks_rationale or said.rationale,
        "asks_better_answer": pool.asks_better_answer or said.better_answer,
        "given": given,
        "said": said,
        "seconds": pool.lease_minutes * 60,
        "idempotency_key": get_random_string(24),
    }


def beginning_of(text: str) -> SafeString:
    """The first words, on one line."""
    return raw(" ".join(text[: 4 * BEGINNING].split())[:BEGINNING])


def verdicts_on_page(pool: PromptPool, said: str | None) -> Iterator[tuple[str, str, str, bool]]:
    """(code, arrow, label, is said) of each button of a pair."""
    for code, (arrow, label) in VERDICTS.items():
        if code != "tie" or pool.ties_allowed or said == "tie":
            yield code, arrow, label, code == said


def strengths_on_page(pool: PromptPool, said: Answer) -> list[str]:
    """The words of the pool's scale; beyond them numbers, up to what was said on a longer one that it had."""
    words = [str(word) for word in STRENGTHS.get(pool.strength_scale, [])]
    most = min(said.strength or 0, max(STRENGTHS))
    return words + [_("step %(n)d") % {"n": n} for n in range(len(words) + 1, most + 1)]


def completions_on_page(assignment: Assignment, each: CompletionOnPage, said: Answer) -> Iterator[CompletionOnPage]:
    for letter, completion in zip(ascii_lowercase, completions_as_shown(assignment), strict=False):
        rank = said.ranks.get(completion.pk)
        set_flags, ratings = said.flags.get(completion.pk, []), said.axes.get(completion.pk, {})
        yield replace(
            each,
            id=str(completion.pk),
            letter=letter,
            html=rendered(completion.text),
            raw=raw(completion.text),
            is_cut=completion.finish_reason == Completion.FinishReason.LENGTH,
            names_its_model=completion.names_its_model,
            rank=None if rank is None else str(rank),
            flags=[(code, label, code in set_flags) for code, label, _is_set in each.flags],
            axes=[(code, label, ratings.get(code)) for code, label, _rating in each.axes],
        )


def any_completion(pool: PromptPool, said: Answer) -> CompletionOnPage:
    """What is asked of all completions alike, or was said of any; its id stands for theirs."""
    flags, axes = [*pool.flags, *chain(*said.flags.values())], [*pool.axes, *chain(*said.axes.values())]
    return CompletionOnPage(
        id="each",
        flags=[(code, label, False) for code, label in labelled(flags, FLAGS)],
        axes=[(code, label, None) for code, label in labelled(axes, AXES)],
    )


def answer_of(given: Ranking) -> Answer:
    """What was said. All bad without an order is stored as a tie of all; nobody gave those ranks."""
    is_unordered = given.all_bad and set(given.ranks.values()) == {1}
    return Answer(
        ranks={} if is_unordered else by_number(given.ranks),
        all_bad=given.all_bad,
        flags=by_number(given.flags),
        axes=by_number(given.axes),
        spans=given.spans,
        strength=given.strength,
        rationale=given.rationale,
        chips=given.chips,
        better_answer=better_answer(given),
    )


def by_number(values: dict[str, Any]) -> dict[int, Any]:
    """The same with the completions' numbers, which JSON keeps as texts."""
    return {int(completion): value for completion, value in values.items()}
