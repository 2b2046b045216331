"""Rankings as pairs, with where each pair comes from. Every format of pairs is one function over this.

A tie holds no pair, so a ranking that ties everything, or was marked all bad, is in no export of pairs; `rankings` has
it. Two completions with the same text make no pair either: nothing can be learned from it.
"""

from collections.abc import Iterator
from typing import NamedTuple

from annotate.exports.columns import REAL, TEXT, WHOLE, as_text
from annotate.preferences import RankedCompletion, RankingRow
from annotate.ranking import preference_pairs

# `margin`: how many ranks lie between the two (1: neighbours); of pairs with the first of the ranking, at least the
# strength that the annotator gave, which says how much better the first is than the next.
# `group_id`: the ranking; its pairs are not independent, keep them in one batch and on one side of a split.
PROVENANCE = {
    "margin": REAL,
    "split": TEXT,
    "group_id": WHOLE,
    "prompt_id": WHOLE,
    "comparison_id": WHOLE,
    "chosen_id": WHOLE,
    "rejected_id": WHOLE,
    "chosen_checkpoint": TEXT,
    "rejected_checkpoint": TEXT,
    "annotator": TEXT,
    "pool": TEXT,
    "language": TEXT,
    "tags": TEXT,
    "source_id": TEXT,
    "created_at": TEXT,
}


class Pair(NamedTuple):
    chosen: RankedCompletion
    rejected: RankedCompletion
    margin: float


class Turn(NamedTuple):
    speaker: str
    text: str


def pairs_of(row: RankingRow) -> Iterator[Pair]:
    if row.all_bad:
        return
    completions = {each.id: each for each in row.completions}
    for pair in preference_pairs(row.ranks):
        chosen, rejected = completions[pair.chosen], completions[pair.rejected]
        if chosen.text != rejected.text:
            strength = (row.strength or 0) if row.ranks[pair.chosen] == 1 else 0
            yield Pair(chosen, rejected, float(max(strength, pair.margin)))


def provenance(row: RankingRow, pair: Pair) -> dict:
    return {
        "margin": pair.margin,
        "split": row.split,
        "group_id": row.id,
        "prompt_id": row.prompt_id,
        "comparison_id": row.comparison_id,
        "chosen_id": pair.chosen.id,
        "rejected_id": pair.rejected.id,
        "chosen_checkpoint": pair.chosen.checkpoint,
        "rejected_checkpoint": pair.rejected.checkpoint,
        "annotator": row.annotator,
        "pool": row.pool,
        "language": row.language,
        "tags": as_text(row.tags),
        "source_id": row.source_id,
        "created_at": row.created_at.isoformat(timespec="microseconds"),
    }


def turns(messages: list[dict[str, str]]) -> list[Turn]:
    """A conversation for formats that know a human and an assistant who take turns.

    What the system says stands at the head of the human's first turn; messages of one speaker in a row are one turn.
    """
    found: list[Turn] = []
    for message in messages:
        speaker = "Assistant" if message["role"] == "assistant" else "Human"
        if found and found[-1].speaker == speaker:
            found[-1] = Turn(speaker, f"{found[-1].text}\n\n{message['content']}")
        else:
            found.append(Turn(speaker, message["content"]))
    return found


def transcript(messages: list[dict[str, str]]) -> str:
    """The conversation as one text that waits for the assistant, in the manner of HH (Bai et al. 2022)."""
    return "".join(f"\n\n{turn.speaker}: {turn.text}" for turn in turns(messages)) + "\n\nAssistant:"
