"""Reward functions that the tests name as module:function."""

import os
import signal
from itertools import count

calls = count(1)


def has_e(prompts, completions):
    """1 where an e stands in the completion."""
    return [float("e" in text) for text in completions]


def count_of_e(prompts, completions):
    """+1 for every e."""
    return [float(text.count("e")) for text in completions]


def has_e_until(prompts, completions):
    """As `has_e`; at call number CALL the program gets SIGNAL (TIMES), so that where it ends is no matter of speed.

    Of several processes it is the one whose rank is OF_RANK.
    """
    is_mine = os.environ.get("RANK", "0") == os.environ.get("OF_RANK", "0")
    if is_mine and next(calls) == int(os.environ.get("CALL", "0")):
        for _ in range(int(os.environ.get("TIMES", "1"))):
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
    return has_e(prompts, completions)


def has_e_of_two(prompts, completions):
    """As `has_e`, for a program that must be one of two."""
    assert os.environ["WORLD_SIZE"] == "2"
    return has_e(prompts, completions)


def short(prompts, completions):
    return [-float(len(text)) for text in completions]


def nothing(prompts, completions):
    return [0.0] * len(completions)


def broken(prompts, completions):
    return [float("nan")] * len(completions)


def beyond_fp32(prompts, completions):
    return [1e39] * len(completions)


def words(prompts, completions):
    return ["good"] * len(completions)


def no_answer(prompts, completions):
    return None


def numbers_too_few(prompts, completions):
    return [0.0]


def by_number(prompts, completions):
    return dict.fromkeys(range(len(completions)), 0.0)
