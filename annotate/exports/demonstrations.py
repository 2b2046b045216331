"""Better answers that annotators wrote by hand, as conversations. `trainer.rlhf sft` reads it as it is.

A ranking whose annotator wrote none makes no record. `id` is the ranking's.
"""

from collections.abc import Iterator

from annotate.exports.columns import MESSAGES, TEXT, WHOLE, as_text
from annotate.preferences import RankingRow

COLUMNS = {
    "id": WHOLE,
    "messages": MESSAGES,
    "split": TEXT,
    "prompt_id": WHOLE,
    "comparison_id": WHOLE,
    "annotator": TEXT,
    "pool": TEXT,
    "language": TEXT,
    "tags": TEXT,
    "source_id": TEXT,
    "created_at": TEXT,
}


def records(row: RankingRow) -> Iterator[dict]:
    if not row.better_answer:
        return
    yield {
        "id": row.id,
        "messages": row.demonstration,
        "split": row.split,
        "prompt_id": row.prompt_id,
        "comparison_id": row.comparison_id,
        "annotator": row.annotator,
        "pool": row.pool,
        "language": row.language,
        "tags": as_text(row.tags),
        "source_id": row.source_id,
        "created_at": row.created_at.isoformat(timespec="microseconds"),
    }
