"""Lending comparisons to annotators: lease, skip, give back.

The next comparison is one statement. It takes the best open row that nobody holds (`FOR UPDATE SKIP LOCKED`), takes a
place on it, and writes the assignment. `taken < overlap` is on the locked row itself, so PostgreSQL looks at it again
on the newest version of the row: two people never get the last place. The constraints in `annotate.models` say so too.
"""

import random
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from annotate.errors import NoSkipInTraining, StaleLease
from annotate.models import Assignment, Comparison, Prompt, PromptPool, User
from annotate.models.comparisons import new_fencing_token
from annotate.selectors import pools_to_lease_from, row, workable_pools

NEWEST_GUIDELINES = """
        (SELECT g.id FROM annotate_guidelineversion g WHERE g.pool_id = %(pool)s ORDER BY g.version DESC LIMIT 1)
""".strip()

NOT_RANKABLE = "not rankable: "  # so begin the reasons of what is for nobody

# A place that this person may have.
OPEN = """
c.taken < c.overlap AND NOT c.is_withdrawn
      AND NOT EXISTS (
        SELECT 1 FROM annotate_assignment a
        WHERE a.comparison_id = c.id AND a.annotator_id = %(annotator)s AND a.status <> 'expired')
      AND (%(with_known_texts)s OR NOT EXISTS (  -- the one it was copied from
        SELECT 1 FROM annotate_assignment a
        WHERE a.comparison_id = c.copied_from_id AND a.annotator_id = %(annotator)s AND a.status <> 'expired'
        OFFSET 0))  -- looked up for each candidate: without, PostgreSQL hashes all that one ever did, and the copies
      AND (%(with_known_texts)s OR NOT EXISTS (  -- its copies, and other copies of the same
        SELECT 1 FROM annotate_comparison copy JOIN annotate_assignment a ON a.comparison_id = copy.id
        WHERE copy.copied_from_id = coalesce(c.copied_from_id, c.id)
          AND a.annotator_id = %(annotator)s AND a.status <> 'expired'
        OFFSET 0))
"""

LEASE = f"""
WITH chosen AS (
    SELECT c.id FROM annotate_comparison c
    WHERE c.pool_id = %(pool)s AND c.kind = %(kind)s AND {OPEN}
    ORDER BY c.priority DESC, c.id
    LIMIT 1 FOR UPDATE OF c SKIP LOCKED
), place AS (
    UPDATE annotate_comparison c SET taken = c.taken + 1 FROM chosen WHERE c.id = chosen.id
    RETURNING c.id, c.pool_id, c.prompt_id, c.kind
), again AS (  -- one's own lease of it that ran out: what was begun or sent under it still fits
    UPDATE annotate_assignment a
    SET status = 'leased', finished_at = NULL, leased_at = %(now)s, expires_at = %(expires)s,
        guideline_version_id = {NEWEST_GUIDELINES}
    FROM place
    WHERE a.id = (
        SELECT late.id FROM annotate_assignment late
        WHERE late.comparison_id = place.id AND late.annotator_id = %(annotator)s AND late.status = 'expired'
        ORDER BY late.id DESC LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING a.*
), lease AS (
    INSERT INTO annotate_assignment
        (comparison_id, annotator_id, status, token, "order", guideline_version_id, leased_at, expires_at, skip_reason)
    SELECT place.id, %(annotator)s, 'leased', %(token)s,
        (SELECT array_agg(t.id ORDER BY random()) FROM annotate_completion t WHERE t.comparison_id = place.id),
        {NEWEST_GUIDELINES}, %(now)s, %(expires)s, ''
    FROM place WHERE NOT EXISTS (SELECT FROM again) RETURNING *
)
SELECT lent.*, place.pool_id, place.prompt_id, place.kind
FROM (SELECT * FROM again UNION ALL SELECT * FROM lease) lent CROSS JOIN place
"""  # noqa: S608 its parts stand here

RECLAIM = f"""
WITH place AS (
    UPDATE annotate_comparison c SET taken = c.taken + 1 WHERE c.id = %(comparison)s AND {OPEN} RETURNING c.id
)
UPDATE annotate_assignment a
SET status = 'leased', finished_at = NULL, leased_at = %(now)s, expires_at = %(expires)s
FROM place WHERE a.id = %(assignment)s
"""  # noqa: S608 its parts stand here

RENEW = """
UPDATE annotate_assignment a SET expires_at = %(now)s + p.lease_minutes * interval '1 minute'
FROM annotate_comparison c JOIN annotate_promptpool p ON p.id = c.pool_id
WHERE c.id = a.comparison_id AND a.id = (
    SELECT held.id FROM annotate_assignment held
    WHERE held.annotator_id = %(annotator)s AND held.finished_at IS NULL  -- the index on both: not all one ever did
      AND held.status = 'leased' AND held.id <> ALL(%(holding)s)
      AND (%(pool)s IS NULL OR EXISTS (
        SELECT FROM annotate_comparison hc WHERE hc.id = held.comparison_id AND hc.pool_id = %(pool)s))
    ORDER BY held.leased_at, held.id
    LIMIT 1 FOR UPDATE OF held SKIP LOCKED)
RETURNING a.*, c.pool_id, c.prompt_id, c.kind
"""

# Both rows at once: who waits for the comparison holds no assignment that another statement needs, and no lease of the
# same comparison slips in before RECLAIM.
HELD = """
SELECT a.*, c.pool_id, c.prompt_id, c.kind
FROM annotate_assignment a JOIN annotate_comparison c ON c.id = a.comparison_id
WHERE a.id = %(assignment)s AND a.annotator_id = %(annotator)s FOR UPDATE OF a, c
"""

FINISH = """
WITH finished AS (
    UPDATE annotate_assignment SET status = %(status)s, finished_at = %(now)s, skip_reason = %(skip_reason)s
    WHERE id = %(assignment)s RETURNING comparison_id
)
UPDATE annotate_comparison c
SET taken = c.taken - %(given_back)s, answered = c.answered + %(answered)s,
    is_withdrawn = c.is_withdrawn OR (%(is_for_nobody)s AND c.taken = %(given_back)s)
FROM finished WHERE c.id = finished.comparison_id
"""

EXPIRE = """
WITH late AS (
    UPDATE annotate_assignment SET status = 'expired', finished_at = %(now)s
    WHERE id IN (
        SELECT id FROM annotate_assignment WHERE status = 'leased' AND expires_at < %(now)s FOR UPDATE SKIP LOCKED)
    RETURNING comparison_id
), freed AS (
    SELECT comparison_id, count(*) AS places FROM late GROUP BY comparison_id
), locked AS (
    SELECT c.id, freed.places FROM annotate_comparison c JOIN freed ON freed.comparison_id = c.id
    ORDER BY c.id FOR UPDATE OF c  -- in one order, so that two of these at once do not wait for each other
)
UPDATE annotate_comparison c SET taken = c.taken - locked.places FROM locked WHERE c.id = locked.id
"""


def lease_next_comparison(
    *, annotator: User, pool_id: int | None = None, holding: Collection[int] | None = None
) -> Assignment | None:
    """Lend the next comparison to `annotator`, from one pool or from any they may work in. None: nothing to do.

    `holding` are the assignments their page has open: one of theirs that is not among them was lost on the way (a
    closed tab, a cut network), and comes back first, the oldest first, with its time starting anew.
    """
    if holding is not None:
        assignment = take_lost_lease(annotator=annotator, pool_id=pool_id, holding=holding)
        if assignment is not None:
            return with_texts(assignment)
    pools = pools_to_lease_from(annotator, pool_id)
    random.shuffle(pools)
    for _attempt in range(2):
        for pool in pools:
            for kind, with_known_texts in kinds_to_offer(pool):
                assignment = take_place(annotator=annotator, pool=pool, kind=kind, with_known_texts=with_known_texts)
                if assignment is not None:
                    return with_texts(assignment, pool)
        if not release_expired_leases():
            return None
    return None


def with_texts(assignment: Assignment, pool: PromptPool | None = None) -> Assignment:
    """The same assignment with its prompt, and its pool unless that is at hand."""
    comparison = assignment.comparison
    comparison.prompt = row(Prompt, comparison.prompt_id)
    comparison.pool = pool or row(PromptPool, comparison.pool_id)
    return assignment


def one_assignment(statement: str, values: dict[str, Any]) -> Assignment | None:
    """What LEASE, RENEW or HELD gives: the assignment, on it the part of its comparison that they read with it.

    Whatever else of the comparison is asked for is read then.
    """
    assignment = next(iter(Assignment.objects.raw(statement, values)), None)
    if assignment is not None:
        part = [assignment.comparison_id, assignment.pool_id, assignment.prompt_id, assignment.kind]
        assignment.comparison = Comparison.from_db(connection.alias, ["id", "pool_id", "prompt_id", "kind"], part)
    return assignment


def kinds_to_offer(pool: PromptPool) -> list[tuple[str, bool]]:
    """Training first, where the pool wants it; then gold, hidden among the others, as often as the pool says.

    With each, whether texts that somebody had in a copy may come to them again: in training, where nothing else is
    left, since whoever ranked here before there was a training set could else never come through it.
    """
    if pool.training_count and not pool.is_qualified:
        return [(Comparison.Kind.TRAINING, False), (Comparison.Kind.TRAINING, True)]
    if pool.gold_share and random.random() < pool.gold_share:
        return [(Comparison.Kind.GOLD, False), (Comparison.Kind.FRESH, False)]
    return [(Comparison.Kind.FRESH, False)]


def take_place(*, annotator: User, pool: PromptPool, kind: str, with_known_texts: bool) -> Assignment | None:
    """Lease the pool's next comparison of this kind. Not inside a transaction: one that failed could not try again."""
    now = timezone.now()
    values = {
        "pool": pool.pk,
        "kind": str(kind),
        "with_known_texts": with_known_texts,
        "annotator": annotator.pk,
        "token": new_fencing_token(),
        "now": now,
        "expires": now + timedelta(minutes=pool.lease_minutes),
    }
    for _attempt in range(5):
        try:
            # One statement is all or nothing by itself; a transaction around it would cost two round trips.
            return one_assignment(LEASE, values)
        except IntegrityError:
            # The same person in a second tab took this very comparison a moment ago: take the next one.
            continue
    return None


def take_lost_lease(*, annotator: User, pool_id: int | None, holding: Collection[int]) -> Assignment | None:
    """The annotator's oldest live assignment outside `holding`, renewed."""
    values = {"annotator": annotator.pk, "pool": pool_id, "holding": list(holding), "now": timezone.now()}
    return one_assignment(RENEW, values)


def release_expired_leases() -> int:
    """Give the places of leases that ran out back to their comparisons. Returns how many comparisons got one back."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(EXPIRE, {"now": timezone.now()})
        return cursor.rowcount


def held_assignment(*, assignment_id: int, annotator: User, token: str) -> Assignment:
    """The annotator's own assignment, locked. Raises StaleLease where it is theirs no longer.

    A lease past its time is theirs for as long as nobody else has the place: whoever ranked without a network for
    longer than a lease loses nothing by it.
    """
    assignment = lock_assignment(assignment_id, annotator)
    if assignment is None or assignment.token != token:
        raise StaleLease
    if assignment.status == Assignment.Status.EXPIRED and not reclaim(assignment, annotator=annotator):
        raise StaleLease
    return assignment


def lock_assignment(assignment_id: int, annotator: User) -> Assignment | None:
    return one_assignment(HELD, {"assignment": assignment_id, "annotator": annotator.pk})


def reclaim(assignment: Assignment, *, annotator: User) -> bool:
    """Begin a locked lease that ran out anew. False: the place or its texts went elsewhere, or the pool is closed."""
    now = timezone.now()
    pool = workable_pools(annotator, assignment.comparison.pool_id).first()
    if pool is None:
        return False
    until = now + timedelta(minutes=pool.lease_minutes)
    values = {
        "assignment": assignment.pk,
        "comparison": assignment.comparison_id,
        "annotator": annotator.pk,
        "now": now,
        "expires": until,
        "with_known_texts": assignment.comparison.kind == Comparison.Kind.TRAINING,
    }
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(RECLAIM, values)
            is_theirs = cursor.rowcount == 1
    except IntegrityError:  # the same person has it anew, in another tab, since a moment ago
        return False
    if is_theirs:
        assignment.status, assignment.finished_at = Assignment.Status.LEASED, None
        assignment.leased_at, assignment.expires_at = now, until
    return is_theirs


@transaction.atomic
def skip_comparison(*, assignment_id: int, annotator: User, token: str, reason: str) -> Assignment:
    """Leave a comparison to somebody else, and say why. Skipping twice is skipping once.

    Raises NoSkipInTraining: one that is skipped never comes again, and too few would be left to pass with.
    """
    assignment = held_assignment(assignment_id=assignment_id, annotator=annotator, token=token)
    if assignment.status == Assignment.Status.LEASED:
        if assignment.comparison.kind == Comparison.Kind.TRAINING:
            raise NoSkipInTraining
        finish(assignment, Assignment.Status.SKIPPED, skip_reason=reason.replace("\0", "")[:200])
    return assignment


def finish(assignment: Assignment, status: Assignment.Status, *, skip_reason: str = "") -> None:
    """End a locked lease, and count it on its comparison: an answer keeps its place, a skip gives it back.

    A fresh comparison that cannot be ranked is shown to nobody after that, unless somebody else has a place on it.
    """
    assignment.status, assignment.finished_at, assignment.skip_reason = status, timezone.now(), skip_reason
    is_answer, is_fresh = status == Assignment.Status.ANSWERED, assignment.comparison.kind == Comparison.Kind.FRESH
    values = {
        "assignment": assignment.pk,
        "status": str(status),
        "now": assignment.finished_at,
        "skip_reason": skip_reason,
        "answered": int(is_answer),
        "given_back": int(not is_answer),
        "is_for_nobody": is_fresh and skip_reason.startswith(NOT_RANKABLE),
    }
    with connection.cursor() as cursor:
        cursor.execute(FINISH, values)
