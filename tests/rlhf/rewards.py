"""Reward functions that the tests name as module:function."""


def has_e(prompts, completions):
    """1 where an e stands in the completion."""
    return [float("e" in text) for text in completions]


def short(prompts, completions):
    return [-float(len(text)) for text in completions]


def nothing(prompts, completions):
    return [0.0] * len(completions)


def broken(prompts, completions):
    return [float("nan")] * len(completions)
