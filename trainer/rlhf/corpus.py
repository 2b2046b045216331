"""A run folder's text corpus as token ids: what `pretrain` learns from, and PPO's ptx term without demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from trainer.rlhf.encoding import MaskedConversation


def corpus_path(folder: Path) -> Path | None:
    """The folder's corpus.jsonl or corpus.txt, if it has one."""
    return next((folder / name for name in ("corpus.jsonl", "corpus.txt") if (folder / name).exists()), None)


def encoded(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    return (tokenizer(document, add_special_tokens=False)["input_ids"] for document in documents)


def cut_blocks(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, block_tokens: int
) -> list[MaskedConversation]:
    """Blocks of `block_tokens` ids over all documents, EOS after each; the last block may be shorter, two at least."""
    ids = [token for document in encoded(documents, tokenizer) for token in (*document, tokenizer.eos_token_id)]
    blocks = [ids[start : start + block_tokens] for start in range(0, len(ids), block_tokens)]
    return [MaskedConversation(block, [True] * len(block)) for block in blocks if len(block) > 1]
