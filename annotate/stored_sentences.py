"""Sentences that a worker stored in English, said in the language of whoever reads them.

A worker cannot know who will read why a run failed or what the gate measured, and `trainer.rlhf` knows no Django: both
store plain English. What they may store stands here once more, as patterns in the catalogue; a stored text that is made
of them is put together anew in the reader's language. Any other text, such as a manager's own reason, stays as it is.
"""

import re
from functools import cache

from django.utils.translation import get_language, gettext, gettext_noop

# A stored text is one of these from its first letter to its last; a place may hold any words.
TEXTS = (
    # trainer.program, trainer.tasks
    gettext_noop("Cancelled; it can be taken up again."),
    gettext_noop(
        "The trainer ended with code {code} in stage {stage}, {times} times without a step forward. "
        "A code of -9 usually means that memory ran out."
    ),
    gettext_noop("The trainer failed in stage {stage}: {last_line}"),
    # trainer.rlhf: why a stage cannot go on
    gettext_noop("The machine ran out of memory; lower ppo.micro_tokens or free some and retry."),
    gettext_noop("prompts.jsonl has no prompt of the split “held_out”: there is nothing to compare on"),
    gettext_noop("prompts.jsonl has no prompt of the split “train”"),
    gettext_noop("there is no ppo/policy to evaluate: run the ppo stage first"),
    gettext_noop("ppo.loss.ptx is set but there is no demonstrations.jsonl in the run folder"),
    gettext_noop("ppo.score.is_dense needs a reward model that is a mean-pooled head on the base"),
    gettext_noop("the parent is an adapter, but lora is null: train an adapter or start from the base"),
    gettext_noop("ppo.critic.kind is adapter, but lora is null: choose head or full"),
    gettext_noop("reward.layer {layer}: this base has hidden states 0 to {layers}"),
    # trainer.rlhf.config: what is wrong with a recipe
    gettext_noop("{key}: must be an object, not {value}"),
    gettext_noop("{key}: unknown key; known are {names}"),
    gettext_noop("{key}: must be one of {names}, not {value}"),
    gettext_noop("{key}: must be a whole number, not {value}"),
    gettext_noop("{key}: must be a number, not {value}"),
    gettext_noop("{key}: must be true or false, not {value}"),
    gettext_noop("{key}: must be a string, not {value}"),
    # trainer.rlhf: what a stage says as it goes
    gettext_noop("reading rankings"),
    gettext_noop("chosen by cross-validation: {settings}"),
    gettext_noop("critic pre-trained for {steps} steps; it explains {share} of the variance of the returns"),
    # trainer.generation: why a pool was paused
    gettext_noop(
        "{share} of the letters that {model} wrote for these prompts are of the pool's language; {wanted} are asked. "
        "Set BASE_MODEL to a model that writes it, or resume the pool."
    ),
    # names of things, in notes and in the audit log
    gettext_noop("run {number}"),
    gettext_noop("comparison {number}"),
    gettext_noop("snapshot {number} of {size} rankings"),
)
# A stored text may be several of these, one after the other; a place holds one word.
PARTS = (
    # trainer.gate
    gettext_noop("Win rate over its parent is {value}; at least {limit} is asked."),
    gettext_noop("Win rate by the independent judge is {value}; at least {limit} is asked."),
    gettext_noop("KL to the base, in nats, is {value}; at most {limit} is allowed."),
    gettext_noop("Length over its parent's is {value}; at least {limit} is asked."),
    gettext_noop("Length over its parent's is {value}; at most {limit} is allowed."),
    gettext_noop("Repetition beyond its parent's is {value}; at most {limit} is allowed."),
    gettext_noop("Held-out reward accuracy is {value}; at least {limit} is asked."),
    gettext_noop("It passed every check."),
    # trainer.rlhf.reward_report
    gettext_noop("There is no held-out pair to measure on: rank more prompts."),
    # xgettext:no-python-format
    gettext_noop("Right on {share} of {pairs} held-out pairs (95 % interval {low} to {high} %)"),
    gettext_noop(", which chance could give too"),
    gettext_noop("; choosing by length alone is right on {share}"),
    gettext_noop(": this reward model does not beat the length-only baseline. Do not train on it yet."),
    gettext_noop(": better than length, but by less than {pairs} pairs can prove. Rank more prompts."),
    gettext_noop(": better than length by {points} points ({low} to {high})."),
)


def in_readers_language(text: str) -> str:
    """The stored text in the language of this page; as it is where it fits no pattern."""
    if not text or (get_language() or "en").startswith("en"):
        return text
    if (said := gettext(text)) != text:
        return said
    for pattern in TEXTS:
        if found := expression(pattern, r".+?").fullmatch(text):
            return gettext(pattern).format(**found.groupdict())
    return parts_in_readers_language(text) or text


def parts_in_readers_language(text: str) -> str | None:
    """Part after part; None where one of them is unknown."""
    said, place = [], 0
    while place < len(text):
        matches = ((pattern, expression(pattern, r"[^\s;:]+").match(text, place)) for pattern in PARTS)
        pattern, found = next((each for each in matches if each[1]), (None, None))
        if found is None:
            return None
        said.append(gettext(pattern).format(**found.groupdict()))
        place = found.end() + text.startswith(" ", found.end())
    return "".join(said)


@cache
def expression(pattern: str, place: str) -> re.Pattern[str]:
    """The pattern as a regular expression; `place` is what may stand in each of its named places."""
    pieces = re.split(r"\{(\w+)\}", pattern)
    return re.compile(
        "".join(f"(?P<{piece}>{place})" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)), re.DOTALL
    )
