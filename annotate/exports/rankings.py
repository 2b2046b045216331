"""Whole rankings, ties and all-bad ones too, with everything the annotator said. `trainer.rlhf` reads it as it is.

`ranks` follow `completions`; 1 is best, equal numbers are ties; an all-bad ranking ties everything. `position` is where
the annotator saw a completion, from 1. `strength` and `guideline_version` are 0, and times and `changes` −1, where
nothing was asked or measured. `flags`, `axes`, `spans`, `chips` and `tags` are JSON text.
"""

from collections.abc import Iterator

from annotate.exports.columns import COMPLETIONS, MESSAGES, TEXT, TEXTS, TRUTH, WHOLE, WHOLES, as_text
from annotate.preferences import RankingRow

COLUMNS = {
    "id": WHOLE,
    "prompt_id": WHOLE,
    "comparison_id": WHOLE,
    "prompt": MESSAGES,
    "completions": COMPLETIONS,
    "ranks": WHOLES,
    "checkpoints": TEXTS,
    "all_bad": TRUTH,
    "strength": WHOLE,
    "split": TEXT,
    "annotator": TEXT,
    "pool": TEXT,
    "language": TEXT,
    "source_id": TEXT,
    "tags": TEXT,
    "flags": TEXT,
    "axes": TEXT,
    "spans": TEXT,
    "chips": TEXT,
    "rationale": TEXT,
    "better_answer": TEXT,
    "revision": WHOLE,
    "guideline_version": WHOLE,
    "active_ms": WHOLE,
    "first_action_ms": WHOLE,
    "changes": WHOLE,
    "created_at": TEXT,
}


def records(row: RankingRow) -> Iterator[dict]:
    yield {
        "id": row.id,
        "prompt_id": row.prompt_id,
        "comparison_id": row.comparison_id,
        "prompt": row.prompt,
        "completions": [
            {
                "id": each.id,
                "text": each.text,
                "checkpoint": each.checkpoint,
                "rank": each.rank,
                "position": each.position,
            }
            for each in row.completions
        ],
        "ranks": [1 if row.all_bad else each.rank for each in row.completions],
        "checkpoints": [each.checkpoint for each in row.completions],
        "all_bad": row.all_bad,
        "strength": row.strength or 0,
        "split": row.split,
        "annotator": row.annotator,
        "pool": row.pool,
        "language": row.language,
        "source_id": row.source_id,
        "tags": as_text(row.tags),
        "flags": as_text(row.flags),
        "axes": as_text(row.axes),
        "spans": as_text(row.spans),
        "chips": as_text(row.chips),
        "rationale": row.rationale,
        "better_answer": row.better_answer or "",
        "revision": row.revision,
        "guideline_version": row.guideline_version or 0,
        "active_ms": measured(row.active_ms),
        "first_action_ms": measured(row.first_action_ms),
        "changes": measured(row.changes),
        "created_at": row.created_at.isoformat(timespec="microseconds"),
    }


def measured(value: int | None) -> int:
    return -1 if value is None else value
