"""Cross-entropy on demonstrations: the loss of supervised fine-tuning, and PPO's ptx term against forgetting.

L = - mean over the assistant's tokens of log pi(y_t | y_<t)      (InstructGPT 2203.02155, eq. 2, the ptx term)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trainer.rlhf.config import RunConfig
from trainer.rlhf.context import check_examples
from trainer.rlhf.corpus import corpus_path, cut_blocks
from trainer.rlhf.data import read_corpus, read_demonstrations
from trainer.rlhf.encoding import MaskedConversation, encode_conversation, naming
from trainer.rlhf.folder import RunFolder, StageError
from trainer.rlhf.logprobs import token_logprobs
from trainer.rlhf.policy import Policy
from trainer.rlhf.processes import Processes
from trainer.rlhf.rollout import derived_seed
from trainer.rlhf.trunk import trunk_of


class Imitation(NamedTuple):
    """Demonstrations as token ids, dealt in batches that depend on nothing but the seed and the step."""

    conversations: list[MaskedConversation]
    batch: int
    seed: int
    micro_tokens: int

    def backward(self, policy: Policy, key: tuple[int, ...], *, weight: float, processes: Processes) -> float:
        """Adds this process's share of weight * L to the gradients for the batch that `key` names; returns L."""
        draw = random.Random(derived_seed(self.seed, 6, *key))
        chosen = draw.sample(self.conversations, min(self.batch, len(self.conversations)))
        return backward_imitation(policy, chosen, weight=weight, micro_tokens=self.micro_tokens, processes=processes)


def load_imitation(folder: RunFolder, policy: Policy, config: RunConfig) -> Imitation:
    """The run folder's demonstrations, or without any its corpus; raises `StageError` if it has neither."""
    conversations = read_conversations(folder, policy.tokenizer, max_tokens=config.sft.max_tokens)
    source = imitated(folder)
    if conversations is None and source is not None:
        conversations = cut_blocks(read_corpus(source), policy.tokenizer, config.pretrain.block_tokens)
    if not conversations:
        raise StageError("ppo.loss.ptx is set, but the run folder has neither demonstrations.jsonl nor a corpus")
    lengths = [len(item.input_ids) for item in conversations]
    check_examples(trunk_of(policy.model), lengths, keys="sft.max_tokens or pretrain.block_tokens")
    return Imitation(conversations, config.ppo.prompts, config.seed, config.ppo.micro_tokens)


def imitated(folder: RunFolder) -> Path | None:
    """The file that `load_imitation` reads."""
    demonstrations = folder.path / "demonstrations.jsonl"
    return demonstrations if demonstrations.exists() else corpus_path(folder.path)


def read_conversations(
    folder: RunFolder, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
) -> list[MaskedConversation] | None:
    """The run folder's demonstrations.jsonl, each cut at `max_tokens`; None without such a file.

    Raises `StageError` if there are none, or nothing of an assistant's turn is left of any.
    """
    path = folder.path / "demonstrations.jsonl"
    if not path.exists():
        return None
    found, read = [], read_demonstrations(path)
    if not read:
        raise StageError(f"{path.name} has no demonstration")
    for item in read:
        with naming(f"{path.name}, demonstration “{item.id}”"):
            found.append(encode_conversation(tokenizer, item.messages))
    found = [MaskedConversation(item.input_ids[:max_tokens], item.is_assistant[:max_tokens]) for item in found]
    found = [item for item in found if any(item.is_assistant[1:])]
    if not found:
        raise StageError("no demonstration has an assistant's turn within sft.max_tokens")
    return found


def backward_imitation(
    policy: Policy,
    conversations: Sequence[MaskedConversation],
    *,
    weight: float,
    micro_tokens: int,
    processes: Processes,
) -> float:
    """Gradients of weight * L for one batch, of which each process takes every world-th; returns L over all."""
    count = sum(sum(item.is_assistant[1:]) for item in conversations)
    total = torch.zeros((), device=policy.device)
    for part in _micro_batches(conversations[processes.rank :: processes.world], micro_tokens):
        loss = conversation_loss(policy, part)
        (weight * loss / count).backward()
        total += loss.detach()
    return float(processes.sum(total)) / count


def conversation_loss(policy: Policy, conversations: Sequence[MaskedConversation]) -> Float[Tensor, ""]:
    """- sum of the log-probs of the assistant's tokens; logits exist for those tokens only."""
    width = max(len(item.input_ids) for item in conversations)
    ids = torch.full((len(conversations), width), policy.pad_id)
    wanted = torch.zeros(len(conversations), width, dtype=torch.bool)
    lengths = torch.tensor([len(item.input_ids) for item in conversations])
    for row, item in enumerate(conversations):
        ids[row, : lengths[row]] = torch.tensor(item.input_ids)
        wanted[row, 1 : lengths[row]] = torch.tensor(item.is_assistant[1:])
    ids, wanted = ids.to(policy.device), wanted.to(policy.device)
    is_real = (torch.arange(width) < lengths[:, None]).long().to(policy.device)
    hidden = trunk_of(policy.model)(input_ids=ids, attention_mask=is_real, use_cache=False).last_hidden_state
    return -token_logprobs(hidden[:, :-1][wanted[:, 1:]], policy.head, ids[wanted]).logprobs.sum()


def _micro_batches(items: Sequence[MaskedConversation], max_tokens: int) -> list[list[MaskedConversation]]:
    parts: list[list[MaskedConversation]] = []
    for item in sorted(items, key=lambda item: -len(item.input_ids)):
        if parts and len(parts[-1][0].input_ids) * (len(parts[-1]) + 1) <= max_tokens:
            parts[-1].append(item)
        else:
            parts.append([item])
    return parts
