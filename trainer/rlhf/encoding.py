"""Conversations to token ids, in one place, so that what the reward model learned on is what PPO has it score.

A scored row is: the chat template's ids of the prompt with the generation prompt, the completion's ids, and EOS if
the completion ended by itself. The template writes its own BOS; no tokenizer call here adds a second one.

A completion whose sampled ids are known is these ids. Of one that is known by its text alone, how it ended is guessed
from its length, and where a limit cut it inside a character or a word the ids of its text are not quite those.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.rlhf.data import Messages
from trainer.rlhf.folder import StageError
from trainer.rlhf.packing import Group

# For base models whose tokenizer has none: the turns of Anthropic's HH data, after an encoder's CLS.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)


class ConversationError(StageError):
    """The chat template rewrites earlier turns, so that no loss mask can be laid over its text."""


class MaskedConversation(NamedTuple):
    """Token ids of a conversation, and for each whether the assistant wrote it."""

    input_ids: list[int]
    is_assistant: list[bool]


def load_tokenizer(folder: Path | str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with EOS (an encoder's SEP), pad token and chat template even where it has none."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = (tokenizer.cls_token or "") + PLAIN_TEMPLATE
    return tokenizer


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, max_tokens: int) -> list[int]:
    """Ids of the prompt, generation prompt included; of a longer one the last `max_tokens` are kept."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"][-max_tokens:]


def encode_completion(
    tokenizer: PreTrainedTokenizerBase, text: str, *, max_tokens: int, sampled: Sequence[int] | None = None
) -> list[int]:
    """Ids of the completion and EOS, together at most `max_tokens`, as sampling would have stopped them.

    Those that were `sampled`, the stop token with them, if this tokenizer writes this text from them: it may be of
    another model. Else the text's own; then one of `max_tokens` or more was cut before its end, and has no EOS.
    """
    if sampled is not None and _writes(tokenizer, list(sampled), text):
        return list(sampled[:max_tokens])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[:max_tokens] if len(ids) >= max_tokens else [*ids, tokenizer.eos_token_id]


def _writes(tokenizer: PreTrainedTokenizerBase, ids: list[int], text: str) -> bool:
    """Whether these ids decode to this text; NUL is left out, as sampling leaves it out.

    So is the last of them, if need be: it may be a stop token that the tokenizer does not call special.
    """
    if max(ids) >= len(tokenizer):
        return False
    each = (tokenizer.decode(part, skip_special_tokens=True).replace("\0", "") for part in (ids, ids[:-1]))
    return text in each


def token_spans(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[tuple[int, int]]:
    """Where each token stands in the text that the ids decode to, without special tokens; these have empty spans.

    A character of several tokens belongs to the last of them, the others' spans are empty. NUL is left out, as sampling
    leaves it out.
    """
    spans, before = [], 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], skip_special_tokens=True).replace("\0", "")
        after = before if text.endswith("\N{REPLACEMENT CHARACTER}") else max(before, len(text))
        spans.append((before, after))
        before = after
    return spans


def encode_group(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Messages,
    texts: Sequence[str],
    *,
    max_prompt_tokens: int,
    max_completion_tokens: int,
    sampled: Sequence[Sequence[int] | None] | None = None,
) -> Group:
    """A prompt and completions of it, as they are scored; `sampled` are their ids where these are known."""
    return Group(
        encode_prompt(tokenizer, prompt, max_tokens=max_prompt_tokens),
        [
            encode_completion(tokenizer, text, max_tokens=max_completion_tokens, sampled=ids)
            for text, ids in zip(texts, sampled or [None] * len(texts), strict=True)
        ],
    )


def encode_conversation(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> MaskedConversation:
    """Ids of a demonstration; the loss is due where the assistant's words and the EOS after them stand."""
    ids: list[int] = []
    mask: list[bool] = []
    written = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = tokenizer.apply_chat_template(messages[:index], add_generation_prompt=True, tokenize=False)
        if not prompt.startswith(written):
            raise ConversationError("the chat template rewrites earlier turns when later ones arrive")
        opening = tokenizer(prompt[len(written) :], add_special_tokens=False)["input_ids"]
        content = tokenizer(message["content"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        ids += opening + content
        mask += [False] * len(opening) + [True] * len(content)
        written = prompt + message["content"] + tokenizer.eos_token
    return MaskedConversation(ids, mask)
