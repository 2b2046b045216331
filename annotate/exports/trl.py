"""TRL's preference format, standard: `prompt`, `chosen`, `rejected` are texts that follow each other."""

from collections.abc import Iterator

from annotate.exports.columns import TEXT
from annotate.exports.pairs import PROVENANCE, pairs_of, provenance, transcript
from annotate.preferences import RankingRow

COLUMNS = {"prompt": TEXT, "chosen": TEXT, "rejected": TEXT} | PROVENANCE


def records(row: RankingRow) -> Iterator[dict]:
    prompt = transcript(row.messages).lstrip("\n")
    for pair in pairs_of(row):
        yield {
            "prompt": prompt,
            "chosen": f" {pair.chosen.text}",
            "rejected": f" {pair.rejected.text}",
        } | provenance(row, pair)
