"""What MOSS-RLHF's reward model reads: `chosen` and `rejected` are lists of texts, human and assistant in turn.

Its reader wants one JSON array in `train.json` and `valid.json`: export as `json`, with split `train` and `held_out`.
It drops pairs with an empty text, so they are left out.
"""

from collections.abc import Iterator

from annotate.exports.columns import TEXTS
from annotate.exports.pairs import PROVENANCE, pairs_of, provenance, turns
from annotate.preferences import RankingRow

COLUMNS = {"chosen": TEXTS, "rejected": TEXTS} | PROVENANCE


def records(row: RankingRow) -> Iterator[dict]:
    context = [turn.text for turn in turns(row.messages)]
    for pair in pairs_of(row):
        if pair.chosen.text and pair.rejected.text:
            yield {
                "chosen": [*context, pair.chosen.text],
                "rejected": [*context, pair.rejected.text],
            } | provenance(row, pair)
