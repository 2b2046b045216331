"""Renewing leases: who is still at work on a comparison keeps it, who went away does not.

Whoever reads on says so now and then, well before the lease ends. Each time the lease is as long again, but never
past LONGEST_TERMS times its length from its start: a browser or a script that was forgotten holds no place for ever.
Whoever comes back to one that ran out has it anew, unless somebody else took the place, which was open in between.
"""

from collections.abc import Collection
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone

from annotate.models import Assignment, User
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
    values = {"annotator": annotator.pk, "holding": list(holding), "now": timezone.now(), "terms": LONGEST_TERMS}
    with connection.cursor() as cursor:
        cursor.execute(RENEW_HELD, values)
        renewed = dict(cursor.fetchall())
    for assignment_id in sorted(set(holding) - renewed.keys()):
        assignment = late_lease_again(annotator, assignment_id)
        if assignment is not None:
            renewed[assignment_id] = assignment.expires_at
    return renewed


@transaction.atomic
def late_lease_again(annotator: User, assignment_id: int) -> Assignment | None:
    """The annotator's lease that ran out, begun anew; None where there is no such one, or it is theirs no longer."""
    assignment = lock_assignment(assignment_id, annotator)
    is_late = assignment is not None and assignment.status == Assignment.Status.EXPIRED
    return assignment if is_late and reclaim(assignment, annotator=annotator) else None
