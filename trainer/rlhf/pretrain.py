"""The `pretrain` stage: self-supervised training on a text corpus.

    python -m trainer.rlhf pretrain RUN_FOLDER   reads corpus.jsonl or corpus.txt, writes pretrain/policy/

The base decides what is learned. A decoder predicts every token but a block's first from those before it; documents are
joined with EOS, and the BOS that the tokenizer writes, and cut into blocks. An encoder (a masked language model) finds
hidden tokens: `masked_lm.py`. With `lora` null its product is a whole model, which `reward.backbone` of another run may
name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trainer.rlhf.config import RunConfig
from trainer.rlhf.context import check_examples
from trainer.rlhf.corpus import corpus_path, cut_blocks, joined_ids
from trainer.rlhf.data import read_corpus
from trainer.rlhf.encoding import MaskedConversation
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.imitation import backward_imitation
from trainer.rlhf.inputs import contents_of, models_of
from trainer.rlhf.masked_lm import Block, backward_cloze, cloze_blocks, hide
from trainer.rlhf.policy import Policy
from trainer.rlhf.processes import Processes, join_processes
from trainer.rlhf.supervised import load_learner, train
from trainer.rlhf.trunk import is_encoder, trunk_of

BLOCKS_PER_PASS = 4  # of one forward and backward: bounds the memory, changes no result

Objective = tuple[Sequence[Any], Callable[[Sequence[Any], int], dict[str, float]]]  # blocks, their backward


def run_pretrain(folder: RunFolder, stop: StopSignal) -> None:
    """Trains on the run folder's corpus."""
    config, processes = folder.config, join_processes()
    corpus = corpus_path(folder.path)
    if corpus is None:
        raise StageError("there is no corpus.jsonl and no corpus.txt in the run folder")
    contents = contents_of(models_of(config) | {corpus.name: corpus}, processes)
    learner = load_learner(config, can_be_encoder=True)
    objective = cloze if is_encoder(learner.policy.model) else next_token
    blocks, backward = objective(learner.policy, read_corpus(corpus), config, processes)
    if not blocks:
        raise StageError("the corpus is shorter than two tokens")
    longest = len(blocks[0].input_ids)  # the last may be shorter
    check_examples(trunk_of(learner.policy.model), [longest], keys="pretrain.block_tokens")
    train(
        folder,
        stop,
        stage="pretrain",
        config=config,
        learner=learner,
        examples=blocks,
        examples_per_step=config.pretrain.blocks_per_step,
        epochs=config.pretrain.epochs,
        learning_rate=config.pretrain_rate,
        backward=backward,
        contents=contents,
        processes=processes,
    )


def next_token(policy: Policy, documents: Iterable[str], config: RunConfig, processes: Processes) -> Objective:
    """Blocks and loss of a decoder."""
    blocks = cut_blocks(documents, policy.tokenizer, config.pretrain.block_tokens)

    def backward(batch: Sequence[MaskedConversation], _step: int) -> dict[str, float]:
        micro_tokens = BLOCKS_PER_PASS * config.pretrain.block_tokens
        loss = backward_imitation(policy, batch, weight=1.0, micro_tokens=micro_tokens, processes=processes)
        return {"pretrain/loss": loss}

    return blocks, backward


def cloze(policy: Policy, documents: Iterable[str], config: RunConfig, processes: Processes) -> Objective:
    """Blocks and loss of an encoder; raises `StageError` if nothing can stand for a hidden token."""
    tokenizer = policy.tokenizer
    if tokenizer.mask_token_id is None:
        raise StageError("the base is a masked language model, but its tokenizer has no mask token")
    blocks = cloze_blocks(joined_ids(documents, tokenizer), tokenizer, config.pretrain.block_tokens)
    steps_per_epoch = -(-len(blocks) // config.pretrain.blocks_per_step)

    def backward(batch: Sequence[Block], step: int) -> dict[str, float]:
        epoch = (step - 1) // steps_per_epoch
        clozes = [hide(block, tokenizer, seed=config.seed, epoch=epoch) for block in batch]
        loss = backward_cloze(policy, clozes, blocks_per_pass=BLOCKS_PER_PASS, processes=processes)
        return {"pretrain/loss": loss, "pretrain/hidden_tokens": sum(len(cloze.places) for cloze in clozes)}

    return blocks, backward
