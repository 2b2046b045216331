"""A run folder's text corpus as token ids: what `pretrain` learns from, and PPO's ptx term without demonstrations."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from trainer.rlhf.encoding import MaskedConversation, writes_bos


def corpus_path(folder: Path) -> Path | None:
    """The folder's corpus.jsonl or corpus.txt, if it has one."""
    return next((folder / name for name in ("corpus.jsonl", "corpus.txt") if (folder / name).exists()), None)


def joined_ids(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, opening: Sequence[int] = ()) -> array[int]:
    """All documents end to end, EOS after each: 4 bytes a token, where a list has some 36.

    `opening` begins each; one that is EOS as well stands once between two.
    """
    ids, opening = array("I"), array("I", opening)
    for document in documents:
        if ids[-1:] != opening:
            ids.extend(opening)
        ids.extend(tokenizer(document, add_special_tokens=False)["input_ids"])
        ids.append(tokenizer.eos_token_id)
    return ids


class Blocks(Sequence[MaskedConversation]):
    """Blocks of `size` ids, made when they are asked for; the last may be shorter, two ids at least."""

    def __init__(self, ids: array[int], size: int):
        self.ids, self.size = ids, size

    def __len__(self) -> int:
        blocks, rest = divmod(len(self.ids), self.size)
        return blocks + (rest > 1)

    def __getitem__(self, place: int) -> MaskedConversation:
        start = range(0, len(self) * self.size, self.size)[place]
        ids = self.ids[start : start + self.size].tolist()
        return MaskedConversation(ids, [True] * len(ids))


def cut_blocks(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, block_tokens: int) -> Blocks:
    """Blocks of `block_tokens` ids over all documents: EOS after each, BOS before it where the tokenizer writes one."""
    opening = [tokenizer.bos_token_id] if writes_bos(tokenizer) else []
    return Blocks(joined_ids(documents, tokenizer, opening), block_tokens)
