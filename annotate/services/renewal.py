"""Renewing leases: who is still at work on a comparison keeps it, who went away does not.

Whoever reads on says so now and then, well before the lease ends. Each time the lease is as long again, but never
past LONGEST_TERMS times its length from its start: a browser or a script that was forgotten holds no place for ever.
Whoever comes back within that time has a lease that ran out again, unless somebody else took the place.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from annotate.models import Assignment, PromptPool, User
from annotate.selectors import row
from annotate.services.assignments import lock_assignment, reclaim

LONGEST_TERMS = 8

# A lease past its time that nobody has reclaimed still holds its place, and can be renewed. No lease gets shorter.
RENEW_HELD = """
UPDATE annotate_assignment a
SET expires_at = greatest(a.expires_at, least(
    %(now)s + p.lease_minutes * interval '1 minute',
    a.leased_at + %(terms)s * p.lease_minutes * interval '1 minute'))
FROM annotate_comparison c JOIN annotate_promptpool p ON p.id = c.pool_id
WHERE c.id = a.comparison_id AND a.annotator_id = %(annotator)s AND a.status = 'leased' AND a.id = ANY(%(holding)s)
RETURNING a.id, a.expires_at
"""


def renew_leases(*, annotator: User, holding: Collection[int]) -> dict[int, datetime]:
    """When each of the annotator's leases among `holding` ends now. One that is missing is theirs no longer."""
    now = timezone.now()
    values = {"annotator": annotator.pk, "holding": list(holding), "now": now, "terms": LONGEST_TERMS}
    with connection.cursor() as cursor:
        cursor.execute(RENEW_HELD, values)
        renewed = dict(cursor.fetchall())
    for assignment_id in sorted(set(holding) - renewed.keys()):
        ends = renew_late(annotator, assignment_id, now)
        if ends is not None:
            renewed[assignment_id] = ends
    return renewed


@transaction.atomic
def renew_late(annotator: User, assignment_id: int, now: datetime) -> datetime | None:
    """The same of a lease that ran out: when it ends now, or None where that cannot be."""
    assignment = lock_assignment(assignment_id, annotator)
    if assignment is None or assignment.status != Assignment.Status.EXPIRED:
        return None
    term = timedelta(minutes=row(PromptPool, assignment.comparison.pool_id).lease_minutes)
    ends = min(now + term, assignment.leased_at + LONGEST_TERMS * term)
    return ends if ends > now and reclaim(assignment, until=ends) else None
