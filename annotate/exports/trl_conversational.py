"""TRL's preference format, conversational: messages, to which the trainer applies the model's own chat template."""

from collections.abc import Iterator

from annotate.exports.columns import MESSAGES
from annotate.exports.pairs import PROVENANCE, pairs_of, provenance
from annotate.preferences import RankingRow

COLUMNS = {"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES} | PROVENANCE


def records(row: RankingRow) -> Iterator[dict]:
    for pair in pairs_of(row):
        yield {
            "prompt": row.prompt,
            "chosen": [{"role": "assistant", "content": pair.chosen.text}],
            "rejected": [{"role": "assistant", "content": pair.rejected.text}],
        } | provenance(row, pair)
