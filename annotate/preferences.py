"""Rankings read as preference data: which ones, and everything that goes with each, at any size in flat memory.

    filters = PreferenceFilters.from_values({"policy": "3", "split": "train", "since": "2026-01-01"})
    for row in ranking_rows(filters.apply(Ranking.objects.all())): ...

Snapshots and every export format read through here. Completions come in the order of their ids, so that two
annotators' rankings of one comparison line up; the order on the page is `shown`.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime, time
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from annotate.errors import WrongFilter
from annotate.models import Completion, Policy, PolicyCheckpoint, PreferenceSnapshot, PromptPool, Ranking

SPLITS = ("train", "held_out")
ROWS_AT_A_TIME = 500
HUMAN = "human"  # stands where a checkpoint's name would, for a completion that a person wrote


@dataclass(frozen=True)
class PreferenceFilters:
    """Which rankings. A snapshot's are those it froze; all else is the newest revision of answers that count.

    `policy` is a number or a name; `since` ≤ time of the answer < `until`. Whoever withdrew is in none of them.
    """

    policy: int | str | None = None
    pool: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    language: str | None = None
    tag: str | None = None
    split: str | None = None
    min_strength: int | None = None
    snapshot: int | None = None

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(each.name for each in fields(cls))

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> "PreferenceFilters":
        """Read what a query string, a form or a command line says; an empty value is no filter. Raises WrongFilter."""
        unknown = sorted(set(values) - set(cls.names()))
        if unknown:
            raise WrongFilter(
                _("There is no filter “%(name)s”; there are %(names)s.")
                % {"name": unknown[0], "names": ", ".join(cls.names())}
            )
        given = {name: value for name, value in values.items() if value not in (None, "")}
        return cls(**{name: PARSERS[name](name, value) for name, value in given.items()})

    def as_json(self) -> dict[str, Any]:
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values.items()
            if value is not None
        }

    def refuse_what_is_not_there(self) -> None:
        """Raise WrongFilter for a policy, pool or snapshot that does not exist: nothing would fit, in silence."""
        policies = {"name": self.policy} if isinstance(self.policy, str) else {"pk": self.policy}
        for name, value, found in (
            ("policy", self.policy, Policy.objects.filter(**policies)),
            ("pool", self.pool, PromptPool.objects.filter(pk=self.pool)),
            ("snapshot", self.snapshot, PreferenceSnapshot.objects.filter(pk=self.snapshot)),
        ):
            if value is not None and not found.exists():
                raise WrongFilter(_("There is no %(name)s “%(value)s”.") % {"name": name, "value": value})

    def apply(self, rankings: QuerySet[Ranking]) -> QuerySet[Ranking]:
        if self.snapshot is not None:
            rankings = rankings.filter(snapshots=self.snapshot, annotator__withdrawn_at=None)
        else:
            rankings = rankings.current()
        conditions = {
            "pool__policy__name" if isinstance(self.policy, str) else "pool__policy": self.policy,
            "pool": self.pool,
            "created_at__gte": self.since,
            "created_at__lt": self.until,
            "assignment__comparison__prompt__language": self.language,
            "assignment__comparison__prompt__tags__contains": [self.tag] if self.tag else None,
            "assignment__comparison__prompt__is_held_out": self.split == "held_out" if self.split else None,
            "strength__gte": self.min_strength,
        }
        return rankings.filter(**{name: value for name, value in conditions.items() if value is not None})


def whole_number(name: str, value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**63:
        raise WrongFilter(_("“%(name)s” must be a whole number.") % {"name": name})
    return int(text)


def number_or_name(name: str, value: Any) -> int | str:
    return whole_number(name, value) if str(value).isdigit() else short_text(name, value)


def moment(name: str, value: Any) -> datetime:
    """A time with or without a zone, or a day: its first moment."""
    if isinstance(value, datetime):
        found = value
    else:
        try:
            day = parse_date(str(value))
            found = datetime.combine(day, time.min) if day else parse_datetime(str(value))
        except ValueError:
            found = None
    if found is None:
        raise WrongFilter(_("“%(name)s” must be a day or a time, like 2026-01-31.") % {"name": name})
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def short_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 100 or "\0" in value:
        raise WrongFilter(_("“%(name)s” must be a short text.") % {"name": name})
    return value


def split_name(name: str, value: Any) -> str:
    if value not in SPLITS:
        raise WrongFilter(_("“%(name)s” must be train or held_out.") % {"name": name})
    return value


PARSERS = {
    "policy": number_or_name,
    "pool": whole_number,
    "since": moment,
    "until": moment,
    "language": short_text,
    "tag": short_text,
    "split": split_name,
    "min_strength": whole_number,
    "snapshot": whole_number,
}


@dataclass(frozen=True, slots=True)
class RankedCompletion:
    """`position` is where the annotator saw it, from 1; `checkpoint` is who wrote it, `token_ids` as what.

    Ids are empty where they were not asked for, or are not known.
    """

    id: int
    text: str
    checkpoint: str
    rank: int
    position: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One ranking with its prompt, its completions in the order of their ids, and its annotator's pseudonym."""

    id: int
    comparison_id: int
    pool: str
    prompt_id: int
    messages: list[dict]
    language: str
    tags: list[str]
    source_id: str
    is_held_out: bool
    completions: tuple[RankedCompletion, ...]
    annotator: str
    revision: int
    all_bad: bool
    strength: int | None
    flags: dict
    axes: dict
    spans: list
    chips: list
    rationale: str
    better_answer: str | None
    guideline_version: int | None
    active_ms: int | None
    first_action_ms: int | None
    changes: int | None
    created_at: datetime

    @property
    def prompt(self) -> list[dict[str, str]]:
        """Its messages, of each the role and the words alone."""
        return [{"role": message["role"], "content": message["content"]} for message in self.messages]

    @property
    def demonstration(self) -> list[dict[str, str]]:
        """The prompt answered as its annotator would have it; only where there is a better answer."""
        return [*self.prompt, {"role": "assistant", "content": self.better_answer}]

    @property
    def split(self) -> str:
        return "held_out" if self.is_held_out else "train"

    @property
    def shown(self) -> list[int]:
        return [each.id for each in sorted(self.completions, key=lambda completion: completion.position)]

    @property
    def ranks(self) -> dict[int, int]:
        return {each.id: each.rank for each in self.completions}


COLUMNS = {
    "id": "id",
    "comparison_id": "assignment__comparison_id",
    "pool": "pool__name",
    "prompt_id": "assignment__comparison__prompt_id",
    "messages": "assignment__comparison__prompt__messages",
    "language": "assignment__comparison__prompt__language",
    "tags": "assignment__comparison__prompt__tags",
    "source_id": "assignment__comparison__prompt__source_id",
    "is_held_out": "assignment__comparison__prompt__is_held_out",
    "annotator": "annotator__pseudonym",
    "revision": "revision",
    "all_bad": "all_bad",
    "strength": "strength",
    "flags": "flags",
    "axes": "axes",
    "spans": "spans",
    "chips": "chips",
    "rationale": "rationale",
    "better_answer": "demonstration__text",
    "guideline_version": "assignment__guideline_version__version",
    "active_ms": "active_ms",
    "first_action_ms": "first_action_ms",
    "changes": "changes",
    "created_at": "created_at",
}


def ranking_rows(rankings: QuerySet[Ranking], *, with_token_ids: bool = False) -> Iterator[RankingRow]:
    """Every ranking, oldest first, as of one moment. Holds `ROWS_AT_A_TIME` rows and a server-side cursor."""
    names = checkpoint_names()
    columns = rankings.order_by("id").values_list(*COLUMNS.values(), "ranks", "assignment__order")
    # A cursor inside a transaction streams; one that must outlive it is first copied whole by PostgreSQL.
    # It is closed before the transaction ends, also when whoever reads goes away halfway.
    with transaction.atomic(), closing(columns.iterator(chunk_size=ROWS_AT_A_TIME)) as found:
        while chunk := list(islice(found, ROWS_AT_A_TIME)):
            plain = [(dict(zip(COLUMNS, row, strict=False)), row[-2], row[-1]) for row in chunk]
            comparisons = {values["comparison_id"] for values, _ranks, _order in plain}
            texts = completions_by_comparison(comparisons, with_token_ids=with_token_ids)
            for values, ranks, order in plain:
                positions = {completion_id: position for position, completion_id in enumerate(order, start=1)}
                completions = tuple(
                    RankedCompletion(pk, text, names.get(writer, HUMAN), ranks[str(pk)], positions[pk], tuple(*ids))
                    for pk, text, writer, *ids in texts[values["comparison_id"]]
                )
                yield RankingRow(completions=completions, **values)


def checkpoint_names() -> dict[int, str]:
    checkpoints = PolicyCheckpoint.objects.select_related("policy").only("number", "policy__name")
    return {checkpoint.pk: checkpoint.name for checkpoint in checkpoints}


def completions_by_comparison(comparison_ids: set[int], *, with_token_ids: bool) -> dict[int, list[tuple]]:
    """Id, text, checkpoint and, if asked for, token ids of the completions of some comparisons, by id."""
    found: dict[int, list[tuple]] = {pk: [] for pk in comparison_ids}
    completions = Completion.objects.filter(comparison__in=comparison_ids).order_by("id")
    columns = ("comparison_id", "id", "text", "checkpoint_id", *["token_ids"] * with_token_ids)
    for comparison_id, *completion in completions.values_list(*columns):
        found[comparison_id].append(tuple(completion))
    return found
