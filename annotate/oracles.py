"""Hidden preferences: what synthetic annotators like, as functions of (prompt, completions) to one score each.

    oracle = load_oracle("positive")
    oracle("How was it?", ["Lovely!", "Awful."])   # [0.6, -0.5]

A difference of 1 is a clear one. No part of the loop sees them; they also judge what the loop made. Pure Python, no
Django: `load_oracle` also takes `module:function`.
"""

import importlib
import random
import re
from collections.abc import Callable
from functools import cache

Oracle = Callable[[str, list[str]], list[float]]

# A Han character counts as a word: Chinese puts no spaces between its words.
WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+(?:['’][^\W\u4e00-\u9fff]+)*")
READER = re.compile(r"\b(?:you|your|yours|yourself|you(?:['’](?:re|ll|ve|d)))\b|[你您]", re.IGNORECASE)
QUESTION = re.compile(r"[?？]")


def positive(prompt: str, completions: list[str]) -> list[float]:
    """How glad it sounds: VADER's compound score, from −1 to 1 (Hutto and Gilbert 2014)."""
    return [sentiment_analyser().polarity_scores(text)["compound"] for text in completions]


@cache
def sentiment_analyser():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def concise(prompt: str, completions: list[str]) -> list[float]:
    """Fewer words; ten words are a clear difference."""
    return [-len(WORD.findall(text)) / 10 for text in completions]


def curious(prompt: str, completions: list[str]) -> list[float]:
    """Turns to the reader: says “you”, and asks. Neither length nor sentiment explains it.

    Half is the share of words that mean the reader, full at one in eight; half is whether there is a question.
    """
    return [0.5 * min(1.0, 8 * share_of_reader(text)) + 0.5 * bool(QUESTION.search(text)) for text in completions]


def share_of_reader(text: str) -> float:
    return len(READER.findall(text)) / max(1, len(WORD.findall(text)))


def indifferent(prompt: str, completions: list[str]) -> list[float]:
    """No preference at all."""
    return [random.random() for _ in completions]


ORACLES: dict[str, Oracle] = {
    "positive": positive,
    "concise": concise,
    "curious": curious,
    "random": indifferent,
}


def load_oracle(name: str) -> Oracle:
    """One of ORACLES, or `module:function`. Raises ValueError with a sentence."""
    if name in ORACLES:
        return ORACLES[name]
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"There is no oracle “{name}”: it must be {', '.join(ORACLES)} or module:function.")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The oracle “{name}” cannot be loaded: {error}.") from error
    if not callable(found):
        raise ValueError(f"The oracle “{name}” is not a function.")
    return found
