"""Sentences that a worker stored in English, said in the language of whoever reads them.

A worker cannot know who will read why a run failed or what the gate measured, and `trainer.rlhf` knows no Django: both
store plain English. What they may store stands here once more, as patterns in the catalogue; a stored text that is made
of them is put together anew in the reader's language. Any other text, such as a manager's own reason, stays as it is.
"""

import re
from functools import cache

from django.utils.translation import get_language, gettext, gettext_noop

# A stored text is one of these from its first letter to its last.
TEXTS = (
    # trainer.generation: why a pool gets nothing, before all that its problem may be
    gettext_noop("No comparisons can be written: {problem}"),
    gettext_noop("the chat template refuses what begins “{names}”: {why}"),
    gettext_noop(
        "the model does not write {count} different completions for the prompts that were tried: raise the temperature "
        "or max_new_tokens, or ask for fewer completions"
    ),
    # trainer.program, trainer.tasks
    gettext_noop("Cancelled; it can be taken up again."),
    gettext_noop(
        "The trainer ended with code {code} in stage {stage}, {times} times without a step forward. "
        "A code of -9 usually means that memory ran out."
    ),
    gettext_noop("The trainer failed in stage {stage}: {last_line}"),
    gettext_noop("Another process is still at work in the run's folder."),
    # trainer.loop: why a candidate that the gate let through does not serve
    gettext_noop("It passed every check, but it was compared with {parent}, and by then {serving} served."),
    # trainer.rlhf: why a stage cannot go on
    gettext_noop("The machine ran out of memory; lower {names}, or free some, and retry."),
    gettext_noop(
        "The machine ran out of memory; lower {names}, or free some, and retry. Before lowering {value}, remove "
        "{folder}: the stage then begins anew."
    ),
    gettext_noop("The disk is full, or a file may not grow so large; make room and retry."),
    gettext_noop("prompts.jsonl has no prompt of the split “held_out”: there is nothing to compare on"),
    gettext_noop("prompts.jsonl has no prompt"),
    gettext_noop("prompts.jsonl has no prompt of the split “{value}”"),
    gettext_noop("rankings.jsonl holds out every prompt that prompts.jsonl gives to train on"),
    gettext_noop(
        "{value} reads {limit} tokens at most ({key}), and a prompt with its completion may have {count}: lower {names}"
    ),
    gettext_noop("{value} reads {limit} tokens at most ({key}), and an example may have {count}: lower {names}"),
    gettext_noop("{value} reads {limit} tokens at most ({key}), and {why} may have {count}: lower {names}"),
    gettext_noop("{value}: the chat template refuses what begins “{names}”: {why}"),
    gettext_noop("{value}: the chat template rewrites earlier turns when later ones arrive"),
    gettext_noop("there is no ppo/policy to evaluate: run the ppo stage first"),
    gettext_noop("ppo.loss.ptx is set, but the run folder has neither demonstrations.jsonl nor a corpus"),
    gettext_noop("ppo.judge_patience is {patience}: the judge's noise is told from two updates at least"),
    gettext_noop(
        "the parent is {kl} nats from the reference, and ppo.kl.stop is {limit}: set ppo.reference to parent, or raise "
        "ppo.kl.stop"
    ),
    gettext_noop("ppo.score.is_dense needs a reward model that is a mean-pooled head on the base"),
    gettext_noop("the parent is an adapter, but lora is null: train an adapter or start from the base"),
    gettext_noop("the parent is a whole model, but lora is set: make it the base_model, or set lora to null"),
    gettext_noop("there is no parent checkpoint in {value}"),
    gettext_noop("the parent {value} is no checkpoint: name a folder such as a run's ppo/policy"),
    gettext_noop("there is no model in {path}: there is no such folder"),
    gettext_noop("there is no model in {path}: {why}"),
    gettext_noop("the weights in {path} cannot be read: {why}"),
    gettext_noop("the tokenizer in {path} cannot be read: {why}"),
    gettext_noop("the tokenizer in {path} has no EOS, by which a completion ends: set its eos_token"),
    gettext_noop("rankings.jsonl has no ranking: rank some prompts first"),
    gettext_noop("the gradient is not finite: lower the learning rate, or set dtype to float32"),
    gettext_noop("the policy's logits are not finite: lower the learning rate, or set dtype to float32"),
    gettext_noop("ppo.critic.kind is adapter, but lora is null: choose head or full"),
    gettext_noop("reward.layer {layer}: this base has hidden states 0 to {layers}"),
    gettext_noop(
        "ppo.prompts is {prompts}: too few for {minibatches} minibatches (ppo.minibatches) in each of "
        "{processes} processes"
    ),
    gettext_noop("all rankings are of one prompt, and none is left to measure on: rank more prompts"),
    gettext_noop(
        "no prompt is held out to measure on: set reward.held_out_share above 0, or the split of some to “held_out”"
    ),
    gettext_noop(
        "rankings with a preference, and a weight above 0, are needed for at least two training prompts: "
        "rank more prompts"
    ),
    gettext_noop("reward.train is lora, but lora is null: give lora settings or choose full"),
    gettext_noop("reward.metarm needs fresh samples of the policy in unranked.jsonl"),
    gettext_noop("unranked.jsonl has no samples of a prompt to train on: generate them with --split train"),
    gettext_noop(
        "ranking “{value}” ties {count} completions above others, and plackett_luce takes {most} at most: "
        "set reward.loss to pairwise"
    ),
    gettext_noop("reward.margin is votes, but reward.ensemble is 0: nobody votes"),
    gettext_noop("reward.simcse needs dropout for its two views: set lora.dropout above 0"),
    gettext_noop("reward.simcse needs dropout for its two views, and this base has none: train with lora"),
    gettext_noop("there is no reward/model: run the reward stage first"),
    gettext_noop("there is no reward/model: run the reward stage first, or name a function with --reward"),
    gettext_noop("there is no reward model in {value}"),
    gettext_noop("there is no checkpoint in {value}"),
    gettext_noop("{value} was trained on the base {base}, and not on that of this run, {own}"),
    gettext_noop(
        "{stage} was begun with other values of {names}: set them back, take a new run folder, or remove {value}"
    ),
    gettext_noop(
        "{stage} was begun with other contents of {names}: set them back, take a new run folder, or remove {value}"
    ),
    gettext_noop("the reward function must return {count} finite numbers, one a completion, not {value}"),
    gettext_noop("{value} is a folder: name the file to write"),
    gettext_noop("{value} is no file: name the file to write"),
    gettext_noop("{value} is read for what is to be written: name another file to write"),
    gettext_noop("there is no folder {path} to write {value} in"),
    gettext_noop("there is no demonstrations.jsonl in the run folder"),
    gettext_noop("{value} has no demonstration"),
    gettext_noop("no demonstration has an assistant's turn within sft.max_tokens"),
    gettext_noop("there is no corpus.jsonl and no corpus.txt in the run folder"),
    gettext_noop("the corpus is shorter than two tokens"),
    gettext_noop("the base is a masked language model, but its tokenizer has no mask token"),
    gettext_noop("reward.backbone stays frozen: set reward.train to auto or probe"),
    gettext_noop("the adapter in {value} is of type {kind}: only LoRA can be read"),
    gettext_noop("the adapter in {value} has {names}, which this program does not apply"),
    # trainer.rlhf.config: what is wrong with a recipe
    gettext_noop("{key}: must be an object, not {value}"),
    gettext_noop("{key}: unknown key; known are {names}"),
    gettext_noop("{key}: must be one of {names}, not {value}"),
    gettext_noop("{key}: must be a whole number, not {value}"),
    gettext_noop("{key}: must be a number, not {value}"),
    gettext_noop("{key}: must be true or false, not {value}"),
    gettext_noop("{key}: must be a finite number, not {value}"),
    gettext_noop("{key}: must be above {limit}, not {value}"),
    gettext_noop("{key}: must be at least {limit}, not {value}"),
    gettext_noop("{key}: must be at most {limit}, not {value}"),
    gettext_noop("{key}: must be a string, not {value}"),
    # json: what is wrong with what somebody typed or uploaded
    gettext_noop("{problem}: line {line} column {column} (char {character})"),
    gettext_noop("Expecting value"),
    gettext_noop("Expecting property name enclosed in double quotes"),
    gettext_noop("Illegal trailing comma before end of object"),
    gettext_noop("Illegal trailing comma before end of array"),
    gettext_noop("Expecting ',' delimiter"),
    gettext_noop("Expecting ':' delimiter"),
    gettext_noop("Unterminated string starting at"),
    gettext_noop("Invalid control character at"),
    gettext_noop("Invalid \\escape"),
    gettext_noop("Extra data"),
    gettext_noop("{word} is no number"),
    # trainer.rlhf: what a stage says as it goes
    gettext_noop("reading rankings"),
    gettext_noop(
        "chosen by cross-validation: {count} readings; best alone {pooling} pooling, layer {layer}, ridge {ridge}"
    ),
    gettext_noop("stopped: the score rises but the independent judge's falls; the policy the judge liked best is kept"),
    gettext_noop("stopped past the peak of the independent judge's scores; the policy the judge liked best is kept"),
    gettext_noop(
        "stopped: the first step is too far from the reference; the policy is the one that the run began with"
    ),
    gettext_noop("stopped at {kl} nats from the reference: the next step is too far"),
    gettext_noop(
        "critic pre-trained in {steps} of at most {most} steps; it explains {share} of the variance of the returns "
        "it was fitted to"
    ),
    # trainer.generation: why a pool was paused
    gettext_noop(
        "{share} of the letters that {model} wrote for these prompts are of the pool's language; {wanted} are asked. "
        "Set BASE_MODEL to a model that writes it, or resume the pool."
    ),
    # what earlier versions said: runs in the database have it
    gettext_noop("The machine ran out of memory; lower {names} or free some and retry."),
    gettext_noop("no prompt is held out to measure on: set reward.held_out_share above 0, or rank more prompts"),
    gettext_noop("rankings with a preference are needed for at least two training prompts: rank more prompts"),
    gettext_noop(
        "{stage} was begun with other options (see {path}): take a new run folder, or remove {folder} and {product}"
    ),
    gettext_noop("the reward function must return {count} finite numbers"),
    gettext_noop("the reward function must return {count} finite numbers, one a completion"),
    gettext_noop("critic pre-trained for {steps} steps; it explains {share} of the variance of the returns"),
    # names of things, in notes and in the audit log
    gettext_noop("run {number}"),
    gettext_noop("comparison {number}"),
    gettext_noop("snapshot {number} of {size} rankings"),
    gettext_noop("user {number}: {name}"),
    gettext_noop("policy {number}: {name}"),
    gettext_noop("prompt pool {number}: {name}"),
    gettext_noop("prompt {number}: {name}"),
    gettext_noop("comparison {number}: {name}"),
    gettext_noop("preference snapshot {number}: {name}"),
    gettext_noop("invitation {number}: {email} as {role}"),
)
# Places of a text that may hold several words, and those that hold digits; every other place is one word.
WORDS = frozenset({"last_line", "names", "value", "name", "problem", "why"})
DIGITS = frozenset({"number", "size", "line", "column", "character"})
# What stands in these places is translated by itself.
NESTED = frozenset({"name", "problem", "role"})
# A stored text may also be several of these, one after the other, with a word in every place.
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
    gettext_noop(
        "Its reward model prefers it and the independent judge does not: it learned to please the reward model."
    ),
    # trainer.rlhf.reward_report
    gettext_noop("There is no held-out pair to measure on: rank more prompts."),
    # xgettext:no-python-format
    gettext_noop("Right on {share} of {pairs} held-out pairs (95 % interval {low} to {high} %)"),
    gettext_noop(", which chance could give too"),
    gettext_noop("; choosing by length alone is right on {share}"),
    gettext_noop(": this reward model does not beat the length-only baseline. Do not train on it yet."),
    gettext_noop(": better than length, but by less than {pairs} pairs can prove. Rank more prompts."),
    gettext_noop(": better than length by {points} points ({low} to {high})."),
    gettext_noop(
        "Held-out prompts that are nearly training prompts: {count} of {prompts}. "
        "What it gets right there may be memory."
    ),
)


def in_readers_language(text: str) -> str:
    """The stored text in the language of this page; as it is where it fits no pattern."""
    if not text or (get_language() or "en").startswith("en"):
        return text
    if (said := gettext(text)) != text:
        return said
    for pattern in TEXTS:
        if found := expression(pattern, WORDS).fullmatch(text):
            return said_with(pattern, found)
    return parts_in_readers_language(text) or text


def parts_in_readers_language(text: str) -> str | None:
    """Part after part; None where one of them is unknown."""
    said, at = [], 0
    while at < len(text):
        matches = ((pattern, expression(pattern, frozenset()).match(text, at)) for pattern in PARTS)
        pattern, found = next((each for each in matches if each[1]), (None, None))
        if found is None:
            return None
        said.append(said_with(pattern, found))
        at = found.end() + text.startswith(" ", found.end())
    return "".join(said)


def said_with(pattern: str, found: re.Match[str]) -> str:
    places = {
        name: in_readers_language(value) if name in NESTED else value for name, value in found.groupdict().items()
    }
    return gettext(pattern).format(**places)


@cache
def expression(pattern: str, words: frozenset[str]) -> re.Pattern[str]:
    """The pattern as a regular expression in which the places named in `words` may hold several words."""
    pieces = re.split(r"\{(\w+)\}", pattern)
    return re.compile(
        "".join(place(piece, words) if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)), re.DOTALL
    )


def place(name: str, words: frozenset[str]) -> str:
    holds = ".+?" if name in words else r"\d+" if name in DIGITS else r"[^\s;:]+"
    return f"(?P<{name}>{holds})"
