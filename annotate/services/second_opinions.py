"""Second opinions: rankings that the models of other people's rankings contradict go back to a person.

What is doubtful is not wrong; another annotator says. One more place is opened on the comparison, ahead of all others,
and once only: a comparison that was asked again, or that still has a free place, gets no further one.
"""

from collections.abc import Collection

from django.db import connection, transaction

from annotate.models import Comparison, PromptPool
from annotate.services.audit import record

ASK_AGAIN = """
WITH doubted AS (
    SELECT c.id, c.pool_id FROM annotate_comparison c
        JOIN annotate_promptpool p ON p.id = c.pool_id JOIN annotate_prompt t ON t.id = c.prompt_id
    WHERE c.id IN (
        SELECT a.comparison_id FROM annotate_ranking r JOIN annotate_assignment a ON a.id = r.assignment_id
        WHERE r.id = ANY(%(rankings)s))
      AND c.kind = %(fresh)s AND p.status = %(active)s AND NOT c.is_withdrawn AND t.retired_at IS NULL
      AND c.taken = c.overlap AND c.overlap <= p.overlap
    ORDER BY c.id FOR UPDATE OF c
)
UPDATE annotate_comparison c SET overlap = c.overlap + 1,
    priority = 1 + (SELECT max(o.priority) FROM annotate_comparison o WHERE o.pool_id = doubted.pool_id)
FROM doubted WHERE c.id = doubted.id
"""


@transaction.atomic
def ask_again(*, ranking_ids: Collection[int], why: str) -> int:
    """Open one more place for the comparison behind each of these rankings; returns how many were opened."""
    kind, status = str(Comparison.Kind.FRESH), str(PromptPool.Status.ACTIVE)
    with connection.cursor() as cursor:
        cursor.execute(ASK_AGAIN, {"rankings": list(ranking_ids), "fresh": kind, "active": status})
        opened = cursor.rowcount
    if opened:
        record(None, "ask-again.comparisons", why, comparisons=opened)
    return opened
