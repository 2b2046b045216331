"""Second opinions: rankings that the models of other people's rankings contradict go back to a person.

What is doubtful is not wrong; another annotator says. One more place is opened on the comparison, ahead of all others,
once and never again. Who gave the first answer cannot give the second, so these are no part of a pool's buffer; and
since they were chosen for looking wrong, they are left out of what is said of agreement.
"""

from collections.abc import Sequence

from django.db import connection, transaction
from django.utils import timezone

from annotate.models import Comparison, PromptPool
from annotate.services.audit import record

ASK_AGAIN = """
WITH doubted AS (
    SELECT c.id, min(named.place) AS place
    FROM unnest(%(rankings)s::bigint[]) WITH ORDINALITY AS named(id, place)
        JOIN annotate_ranking r ON r.id = named.id JOIN annotate_user u ON u.id = r.annotator_id
        JOIN annotate_assignment a ON a.id = r.assignment_id JOIN annotate_comparison c ON c.id = a.comparison_id
        JOIN annotate_prompt t ON t.id = c.prompt_id JOIN annotate_promptpool p ON p.id = c.pool_id
    WHERE r.is_current AND r.counts AND u.withdrawn_at IS NULL AND c.kind = %(fresh)s AND p.status = %(active)s
      AND NOT c.is_withdrawn AND t.retired_at IS NULL AND c.answered = c.overlap AND c.asked_again_at IS NULL
    GROUP BY c.id ORDER BY place LIMIT %(most)s
), locked AS (
    SELECT c.id, y.serving_epoch + 1 AS priority
    FROM annotate_comparison c JOIN doubted ON doubted.id = c.id
        JOIN annotate_promptpool p ON p.id = c.pool_id JOIN annotate_policy y ON y.id = p.policy_id
    WHERE c.answered = c.overlap AND c.asked_again_at IS NULL
    ORDER BY c.id FOR UPDATE OF c
)
UPDATE annotate_comparison c SET overlap = c.overlap + 1, priority = locked.priority, asked_again_at = %(now)s
FROM locked WHERE c.id = locked.id
"""


@transaction.atomic
def ask_again(*, ranking_ids: Sequence[int], most: int, why: str) -> int:
    """Open one more place for the comparisons behind these rankings, the first that can be asked `most` at most.

    Returns how many were opened.
    """
    values = {
        "rankings": list(ranking_ids),
        "most": most,
        "fresh": str(Comparison.Kind.FRESH),
        "active": str(PromptPool.Status.ACTIVE),
        "now": timezone.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(ASK_AGAIN, values)
        opened = cursor.rowcount
    if opened:
        record(None, "ask-again.comparisons", why, comparisons=opened)
    return opened
