"""The `pretrain` stage: self-supervised training on a text corpus.

    python -m trainer.rlhf pretrain RUN_FOLDER   reads corpus.jsonl or corpus.txt, writes pretrain/policy/

Documents are joined with EOS and cut into blocks; every token but a block's first is predicted from those before it.
Left out: masked-language-model training of encoders. A reward model here stands on the same decoder as its policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from trainer.rlhf.data import read_corpus
from trainer.rlhf.encoding import MaskedConversation
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.imitation import backward_imitation
from trainer.rlhf.processes import join_processes
from trainer.rlhf.supervised import load_learner, train


def run_pretrain(folder: RunFolder, stop: StopSignal) -> None:
    """Trains on the run folder's corpus."""
    config, processes = folder.config, join_processes()
    learner = load_learner(config)
    blocks = cut_blocks(read_corpus(corpus_path(folder)), learner.policy.tokenizer, config.pretrain.block_tokens)
    if not blocks:
        raise StageError("the corpus is shorter than two tokens")

    def backward(batch: Sequence[MaskedConversation], _step: int) -> dict[str, float]:
        micro_tokens = 4 * config.pretrain.block_tokens
        loss = backward_imitation(learner.policy, batch, weight=1.0, micro_tokens=micro_tokens, processes=processes)
        return {"pretrain/loss": loss}

    train(
        folder,
        stop,
        stage="pretrain",
        config=config,
        learner=learner,
        examples=blocks,
        examples_per_step=config.pretrain.blocks_per_step,
        epochs=config.pretrain.epochs,
        learning_rate=config.pretrain.learning_rate,
        backward=backward,
        processes=processes,
    )


def corpus_path(folder: RunFolder) -> Path:
    for name in ("corpus.jsonl", "corpus.txt"):
        if (folder.path / name).exists():
            return folder.path / name
    raise StageError("there is no corpus.jsonl and no corpus.txt in the run folder")


def cut_blocks(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, block_tokens: int
) -> list[MaskedConversation]:
    """Blocks of `block_tokens` ids over all documents, EOS after each; the last block may be shorter, two at least."""
    ids: list[int] = []
    for document in documents:
        ids += [*tokenizer(document, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    blocks = [ids[start : start + block_tokens] for start in range(0, len(ids), block_tokens)]
    return [MaskedConversation(block, [True] * len(block)) for block in blocks if len(block) > 1]
