"""Masked-language-model training of an encoder: BERT's cloze (1810.04805, 3.1).

    L = - mean over the chosen tokens t of log p(x_t | x with the chosen tokens hidden)

Of a block's words 15 % are chosen; of these 80 % are replaced by the mask token, 10 % by any token, 10 % left as they
are. What is chosen depends on nothing but (seed, epoch, block): each epoch hides others, a resumed stage the same ones.

Left out: next-sentence prediction, which later work found useless (1907.11692, 4.2); masking whole words or spans;
dropout. Logits are computed for all tokens of a micro-batch, since what stands before them differs between encoders.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from trainer.rlhf.policy import Policy
from trainer.rlhf.processes import Processes
from trainer.rlhf.rollout import derived_seed

CHOSEN_SHARE = 0.15
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen


class Block(NamedTuple):
    """A stretch of the corpus with its number, the first token of a sequence before it where the encoder has one."""

    number: int
    input_ids: Sequence[int]


class Cloze(NamedTuple):
    """A block as the model sees it, and what stood at the chosen places."""

    input_ids: list[int]
    places: list[int]
    targets: list[int]


def cloze_blocks(ids: array[int], tokenizer: PreTrainedTokenizerBase, block_tokens: int) -> list[Block]:
    """Documents that stand end to end in blocks of `block_tokens` ids, CLS included; the last is shorter.

    A block without a word that could be hidden is left out.
    """
    opening = array(ids.typecode, [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id])
    size = block_tokens - len(opening)
    blocks = (ids[start : start + size] for start in range(0, len(ids), size))
    special = set(tokenizer.all_special_ids)
    return [Block(number, opening + block) for number, block in enumerate(blocks) if not special.issuperset(block)]


def hide(block: Block, tokenizer: PreTrainedTokenizerBase, *, seed: int, epoch: int) -> Cloze:
    """The block with 15 % of its words (one at least) chosen."""
    draw = random.Random(derived_seed(seed, 7, epoch, block.number))
    special = set(tokenizer.all_special_ids)
    words = [place for place, token in enumerate(block.input_ids) if token not in special]
    places = sorted(draw.sample(words, max(1, round(CHOSEN_SHARE * len(words)))))
    ids = list(block.input_ids)
    for place in places:
        chance = draw.random()
        if chance < MASK_SHARE:
            ids[place] = tokenizer.mask_token_id
        elif chance < MASK_SHARE + RANDOM_SHARE:
            ids[place] = draw.randrange(len(tokenizer))
    return Cloze(ids, places, [block.input_ids[place] for place in places])


def backward_cloze(policy: Policy, clozes: Sequence[Cloze], *, blocks_per_pass: int, processes: Processes) -> float:
    """Gradients of L for one batch, of which each process takes every world-th block; returns L over all."""
    count = sum(len(cloze.places) for cloze in clozes)
    mine = clozes[processes.rank :: processes.world]
    total = torch.zeros((), device=policy.device)
    for start in range(0, len(mine), blocks_per_pass):
        loss = cloze_loss(policy, mine[start : start + blocks_per_pass])
        (loss / count).backward()
        total += loss.detach()
    return float(processes.sum(total)) / count


def cloze_loss(policy: Policy, clozes: Sequence[Cloze]) -> Float[Tensor, ""]:
    """- sum over the chosen tokens of their log-probs, whatever the padding."""
    width = max(len(cloze.input_ids) for cloze in clozes)
    ids = torch.full((len(clozes), width), policy.pad_id)
    is_real = torch.zeros(len(clozes), width, dtype=torch.long)
    for row, cloze in enumerate(clozes):
        ids[row, : len(cloze.input_ids)] = torch.tensor(cloze.input_ids)
        is_real[row, : len(cloze.input_ids)] = 1
    rows = torch.tensor([row for row, cloze in enumerate(clozes) for _ in cloze.places])
    places = torch.tensor([place for cloze in clozes for place in cloze.places])
    targets = torch.tensor([token for cloze in clozes for token in cloze.targets], device=policy.device)
    logits = policy.model(input_ids=ids.to(policy.device), attention_mask=is_real.to(policy.device)).logits
    return cross_entropy(logits[rows, places].float(), targets, reduction="sum")
