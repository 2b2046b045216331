"""Answers: submitted once and only once, corrected as revisions, never edited."""

from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import (
    AlreadyAnswered,
    FrozenRanking,
    IncompleteRanking,
    KeyUsedTwice,
    NothingChanged,
    Refused,
    StaleLease,
)
from annotate.models import Assignment, Comparison, Demonstration, PoolMember, PromptPool, Ranking, User
from annotate.ranking import dense_ranks, has_ties, is_complete, kendall_tau_b
from annotate.selectors import better_answer, row
from annotate.services.assignments import finish, held_assignment
from annotate.services.pools import earlier_values

LONGEST_TEXT = 20_000
AGE_OF_A_FORM = timedelta(days=7)  # at most, when its lease begins: one that ran out begins anew under the form it had
SAID = ("ranks", "all_bad", "flags", "axes", "spans", "strength", "rationale", "chips")  # not how long it took


@dataclass(frozen=True)
class Answer:
    """What an annotator said of one comparison. Keys of `ranks`, `flags` and `axes` are completion ids."""

    ranks: dict[int, int] = field(default_factory=dict)
    all_bad: bool = False
    flags: dict[int, list[str]] = field(default_factory=dict)
    axes: dict[int, dict[str, int]] = field(default_factory=dict)
    spans: list[dict] = field(default_factory=list)
    strength: int | None = None
    rationale: str = ""
    chips: list[str] = field(default_factory=list)
    better_answer: str = ""
    active_ms: int | None = None
    first_action_ms: int | None = None
    changes: int | None = None


@transaction.atomic
def submit_ranking(
    *, assignment_id: int, annotator: User, token: str, idempotency_key: str, answer: Answer
) -> tuple[Ranking, bool]:
    """Store an answer; the second value says whether it is new. The same key again gives the same Ranking.

    The key is looked up only where the lease is no longer live: before that it can have stored nothing here, and the
    database itself refuses a key that answers another assignment. Raises StaleLease, AlreadyAnswered, KeyUsedTwice,
    IncompleteRanking.
    """
    refuse_unstorable(idempotency_key)
    refusal = AlreadyAnswered
    try:
        assignment = held_assignment(assignment_id=assignment_id, annotator=annotator, token=token)
    except StaleLease:
        assignment, refusal = None, StaleLease
    if assignment is None or assignment.status != Assignment.Status.LEASED:
        earlier = ranking_of_key(annotator, idempotency_key, assignment_id)
        if earlier is None:
            raise refusal
        return earlier, False

    assignment.comparison.pool = row(PromptPool, assignment.comparison.pool_id)
    answer = storable(answer)
    ranking = checked_ranking(assignment=assignment, revision=1, idempotency_key=idempotency_key, answer=answer)
    store(ranking)
    keep_better_answer(ranking, answer.better_answer)
    finish(assignment, Assignment.Status.ANSWERED)
    if assignment.comparison.kind == Comparison.Kind.TRAINING:
        note_training_answer(ranking)
    return ranking, True


@transaction.atomic
def revise_ranking(
    *, assignment_id: int, annotator: User, idempotency_key: str, answer: Answer
) -> tuple[Ranking, bool]:
    """Correct one's own answer with a new revision; the second value says whether it is new.

    A correction says the whole answer anew: a better answer that is missing in it is taken back. Gold is corrected like
    any other, or a refusal would tell which comparison was gold; what counts there is the first answer.

    Raises FrozenRanking once a snapshot has used it, NothingChanged, KeyUsedTwice, IncompleteRanking.
    """
    refuse_unstorable(idempotency_key)
    assignment = (
        Assignment.objects.select_for_update(of=("self",))
        .select_related("comparison__pool")
        .filter(pk=assignment_id, annotator=annotator, status=Assignment.Status.ANSWERED)
        .first()
    )
    earlier = ranking_of_key(annotator, idempotency_key, assignment_id)
    if earlier is not None:
        return earlier, False
    if assignment is None:
        raise Refused(_("There is no answer of yours to correct here."))
    if assignment.comparison.kind == Comparison.Kind.TRAINING:
        raise FrozenRanking(_("This answer can no longer be changed."))
    current = assignment.rankings.select_for_update().get(is_current=True)
    if current.snapshots.exists():
        raise FrozenRanking
    let_stand(current, assignment.comparison.pool)
    answer = storable(answer)
    ranking = checked_ranking(
        assignment=assignment, revision=current.revision + 1, idempotency_key=idempotency_key, answer=answer
    )
    is_rewritten = answer.better_answer != better_answer(current)
    if not is_rewritten and all(getattr(ranking, name) == getattr(current, name) for name in SAID):
        raise NothingChanged
    current.is_current = False
    current.save(update_fields=["is_current"])
    store(ranking)
    keep_better_answer(ranking, answer.better_answer)
    return ranking, True


def let_stand(current: Ranking, pool: PromptPool) -> None:
    """What an answer says already may be said in its correction, whatever the pool, never saved here, asks by now."""
    pool.ties_allowed = pool.ties_allowed or (has_ties(current.ranks) and not current.all_bad)
    pool.strength_scale = max(pool.strength_scale, current.strength or 0)


def refuse_unstorable(idempotency_key: str) -> None:
    if "\0" in idempotency_key:
        raise Refused(_("This idempotency key cannot be stored."))


def ranking_of_key(annotator: User, idempotency_key: str, assignment_id: int) -> Ranking | None:
    """What this key has stored already. Raises KeyUsedTwice where that answers another assignment."""
    rankings = Ranking.objects.select_related("assignment__comparison__pool")
    earlier = rankings.filter(annotator=annotator, idempotency_key=idempotency_key).first()
    if earlier is not None and earlier.assignment_id != assignment_id:
        raise KeyUsedTwice
    return earlier


def storable(answer: Answer) -> Answer:
    """The same without NUL characters; its texts without space around them, cut at LONGEST_TEXT characters."""
    clean = Answer(**{each.name: without_nul(getattr(answer, each.name)) for each in fields(answer)})
    texts = {name: getattr(clean, name).strip()[:LONGEST_TEXT] for name in ("rationale", "better_answer")}
    return replace(clean, **texts)


def checked_ranking(*, assignment: Assignment, revision: int, idempotency_key: str, answer: Answer) -> Ranking:
    """What is to be stored of a storable answer, not saved yet. Raises IncompleteRanking.

    Where the pool's settings changed meanwhile, an answer may keep to those under which it was begun.
    """
    comparison, pool = assignment.comparison, assignment.comparison.pool
    return Ranking(
        assignment=assignment,
        pool=pool,
        annotator_id=assignment.annotator_id,
        revision=revision,
        counts=comparison.kind != Comparison.Kind.TRAINING,
        ranks=checked_ranks(answer, assignment),
        all_bad=answer.all_bad,
        flags=checked_keys(answer.flags, assignment.order),
        axes=checked_axes(answer.axes, assignment.order),
        spans=checked_spans(answer.spans, assignment.order),
        strength=checked_strength(answer.strength, assignment),
        rationale=answer.rationale,
        chips=answer.chips,
        active_ms=answer.active_ms,
        first_action_ms=answer.first_action_ms,
        changes=answer.changes,
        idempotency_key=idempotency_key,
    )


def store(ranking: Ranking) -> None:
    try:
        ranking.save()
    except IntegrityError:
        # This key has stored another answer. No savepoint: what raises this undoes the caller's transaction as a whole.
        raise KeyUsedTwice from None


def keep_better_answer(ranking: Ranking, text: str) -> None:
    """Keep it as this revision's demonstration; nothing where nothing was written."""
    if text:
        prompt_id = ranking.assignment.comparison.prompt_id
        Demonstration.objects.create(ranking=ranking, prompt_id=prompt_id, author_id=ranking.annotator_id, text=text)


def without_nul(value: Any) -> Any:
    """The same without NUL characters, which PostgreSQL does not store: no reason to lose an answer."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return value


def checked_ranks(answer: Answer, assignment: Assignment) -> dict[str, int]:
    """Dense ranks by completion id. All bad needs no ranks: everything is tied."""
    if answer.all_bad and not answer.ranks:
        return {str(completion): 1 for completion in assignment.order}
    if not is_complete(answer.ranks, assignment.order):
        raise IncompleteRanking
    may_tie = answer.all_bad or assignment.comparison.pool.ties_allowed or not has_ties(answer.ranks)
    if not may_tie and True not in earlier_settings(assignment, "ties_allowed"):
        raise IncompleteRanking(_("Ties are not allowed in this pool."))
    return {str(completion): rank for completion, rank in dense_ranks(answer.ranks).items()}


def checked_keys(values: dict[int, object], order: list[int]) -> dict[str, object]:
    if not set(values) <= set(order):
        raise IncompleteRanking(_("A flag or rating names a completion that is not in this comparison."))
    return {str(completion): value for completion, value in values.items() if value}


def checked_axes(axes: dict[int, dict[str, int]], order: list[int]) -> dict[str, object]:
    if not all(1 <= rating <= 5 for ratings in axes.values() for rating in ratings.values()):
        raise IncompleteRanking(_("A rating is a whole number from 1 to 5."))
    return checked_keys(axes, order)


def checked_spans(spans: list[dict], order: list[int]) -> list[dict]:
    if not all(span["completion"] in order and span["start"] < span["end"] for span in spans):
        raise IncompleteRanking(_("A highlight must lie in a completion of this comparison."))
    return spans


def checked_strength(strength: int | None, assignment: Assignment) -> int | None:
    """On the pool's scale, or on a longer one that it had when the answer was begun."""
    if strength is None or 1 <= strength <= max(assignment.comparison.pool.strength_scale, 1):
        return strength
    if not 1 <= strength <= max(earlier_settings(assignment, "strength_scale"), default=0):
        raise IncompleteRanking(_("The strength is outside this pool's scale."))
    return strength


def earlier_settings(assignment: Assignment, name: str) -> list[Any]:
    """What a setting of the pool has been since the form can have been drawn, and is no more."""
    return earlier_values(assignment.comparison.pool, name, assignment.leased_at - AGE_OF_A_FORM)


def note_training_answer(ranking: Ranking) -> None:
    """Count a training answer; qualify its annotator once enough of enough were right."""
    pool = ranking.pool
    member, _created = PoolMember.objects.select_for_update().get_or_create(pool=pool, user_id=ranking.annotator_id)
    member.training_seen += 1
    member.training_right += is_right(ranking)
    enough = member.training_seen >= pool.training_count
    if enough and member.training_right >= pool.training_pass_share * member.training_seen:
        member.qualified_at = member.qualified_at or timezone.now()
    member.save()


def is_right(ranking: Ranking) -> bool:
    """Whether an answer to a gold or training comparison agrees with its gold order: τ-b of at least ½."""
    gold = ranking.assignment.comparison.gold_ranks or {}
    agreement = kendall_tau_b(gold, ranking.ranks)
    return gold == ranking.ranks if agreement is None else agreement >= 0.5
