"""What each part of a text adds to its score, for the page: pure functions of what `evaluation.json` holds.

A score is the mean of one term for each token, so the terms are no estimate: they are the score.
"""

from typing import NamedTuple

STEPS = 3  # of strength that the page can show, on either side of nothing


class Piece(NamedTuple):
    """A stretch of text with its term, and the term in steps: −3 pulls the score down, 3 up, 0 hardly counts."""

    text: str
    term: float
    step: int


def pieces(text: str, terms: list[list[float]] | None, *, largest: float) -> list[Piece]:
    """The text cut at its tokens; what no token covers has the term 0. `largest` is the term of the last step."""
    found, place = [], 0
    for start, end, term in terms or []:
        start, end = int(start), int(end)
        if not place <= start < end <= len(text):
            continue
        if place < start:
            found.append(Piece(text[place:start], 0.0, 0))
        step = round(STEPS * max(-1.0, min(1.0, term / largest))) if largest else 0
        found.append(Piece(text[start:end], term, step))
        place = end
    if found and place < len(text):
        found.append(Piece(text[place:], 0.0, 0))
    return found


def attributed(sample: dict) -> list[list[Piece]]:
    """The candidate's and the parent's text in pieces, on one scale; both empty where the run's score has no terms."""
    terms = (sample.get("terms") or [None, None])[:2]
    largest = max((abs(term) for own in terms for start, end, term in own or [] if end > start), default=0.0)
    texts = (sample.get("candidate", ""), sample.get("parent", ""))
    return [pieces(text, own, largest=largest) for text, own in zip(texts, terms, strict=True)]
