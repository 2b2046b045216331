"""The format of Anthropic's HH (Bai et al. 2022): `chosen` and `rejected` are whole transcripts with the same start."""

from collections.abc import Iterator

from annotate.exports.columns import TEXT
from annotate.exports.pairs import PROVENANCE, pairs_of, provenance, transcript
from annotate.preferences import RankingRow

COLUMNS = {"chosen": TEXT, "rejected": TEXT} | PROVENANCE


def records(row: RankingRow) -> Iterator[dict]:
    prompt = transcript(row.messages)
    for pair in pairs_of(row):
        yield {
            "chosen": f"{prompt} {pair.chosen.text}",
            "rejected": f"{prompt} {pair.rejected.text}",
        } | provenance(row, pair)
