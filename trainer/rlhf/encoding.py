"""Conversations to token ids, in one place, so that what the reward model learned on is what PPO has it score.

A scored row is: the chat template's ids of the prompt with the generation prompt, the completion's ids, and if the
completion ended by itself the token that ends a turn: what the template writes after an assistant's turn (<|im_end|>,
<end_of_turn>), which need not be the tokenizer's EOS. The template writes its own BOS; no tokenizer call here adds a
second one.

A completion whose sampled ids are known is these ids. Of one that is known by its text alone, how it ended is guessed
from its length, and where a limit cut it inside a character or a word the ids of its text are not quite those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.rlhf.data import Messages, Prompt
from trainer.rlhf.folder import StageError
from trainer.rlhf.packing import Group

# For base models whose tokenizer has none: the turns of Anthropic's HH data, after what begins a sequence.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)

ENCODING = 2  # one more whenever the same texts become other token ids: a state or file of others is made anew
ANSWER = "Whetstone"  # which no template writes of itself


class ConversationError(StageError):
    """The chat template refuses a conversation, or rewrites earlier turns, so that no loss mask fits its text."""


class MaskedConversation(NamedTuple):
    """Token ids of a conversation, and for each whether the assistant wrote it."""

    input_ids: list[int]
    is_assistant: list[bool]


def load_tokenizer(folder: Path | str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with EOS (an encoder's SEP), pad token and chat template even where it has none.

    Raises `StageError` where there is none, or one without EOS and SEP.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise StageError(f"the tokenizer in {folder} cannot be read: {' '.join(str(error).split())}") from error
    if tokenizer.eos_token_id is None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.eos_token_id is None:
        raise StageError(f"the tokenizer in {folder} has no EOS, by which a completion ends: set its eos_token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _opening(tokenizer) + PLAIN_TEMPLATE
    return tokenizer


def _opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """What begins a sequence: an encoder's CLS, and BOS where the tokenizer itself writes one."""
    if tokenizer.cls_token:
        return tokenizer.cls_token
    return tokenizer.bos_token if writes_bos(tokenizer) else ""


def writes_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself begins a sequence with BOS, as the model was trained to see it."""
    return tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Says in a `ConversationError` which conversation it is of."""
    try:
        yield
    except ConversationError as error:
        raise ConversationError(f"{what}: {error}") from error


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special token that the chat template writes after an assistant's turn; EOS where it writes none."""
    return _turn_end(tokenizer, str(tokenizer.chat_template))


@lru_cache(maxsize=8)
def _turn_end(tokenizer: PreTrainedTokenizerBase, _template: str) -> str:
    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": ANSWER}]
    try:
        _, answer, after = _written(tokenizer, turns).rpartition(ANSWER)
    except ConversationError:
        return tokenizer.eos_token
    marks = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    written = [mark for mark in marks if answer and after.lstrip().startswith(mark)]
    return max(written, key=len, default=tokenizer.eos_token)


def turn_end_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return tokenizer.convert_tokens_to_ids(turn_end(tokenizer))


def _written(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, is_prompt: bool = False) -> str:
    """The chat template's text of these turns, with the beginning of an answer if they are a prompt."""
    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=is_prompt, tokenize=False)
    except TemplateError as error:
        beginning = messages[0]["content"][:60] if messages else ""
        raise ConversationError(f"the chat template refuses what begins “{beginning}”: {error}") from error


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, max_tokens: int) -> list[int]:
    """Ids of the prompt, generation prompt included; of a longer one `max_tokens`: its end, after BOS or CLS.

    Raises `ConversationError` where the template takes no such conversation.
    """
    text = _written(tokenizer, messages, is_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) <= max_tokens:
        return ids
    opening = _opening(tokenizer)
    kept = ids[:1] if opening and ids[0] == tokenizer.convert_tokens_to_ids(opening) else []
    return kept + ids[len(ids) - max_tokens + len(kept) :]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], *, max_tokens: int
) -> list[list[int]]:
    """The ids of each; an error says of which prompt it is."""
    ids = []
    for prompt in prompts:
        with naming(f"prompt “{prompt.id}”"):
            ids.append(encode_prompt(tokenizer, prompt.messages, max_tokens=max_tokens))
    return ids


def encode_completion(
    tokenizer: PreTrainedTokenizerBase, text: str, *, max_tokens: int | None, sampled: Sequence[int] | None = None
) -> list[int]:
    """Ids of the completion and the end of its turn, at most `max_tokens` if any, as sampling would have stopped them.

    Those that were `sampled`, the stop token with them, if this tokenizer writes this text from them: it may be of
    another model. Else the text's own; then one of `max_tokens` or more was cut before its end, and has none.
    """
    if sampled is not None and _writes(tokenizer, list(sampled), text):
        return list(sampled[:max_tokens])
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [*ids, turn_end_id(tokenizer)][:max_tokens]


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
    max_completion_tokens: int | None,
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
    """Ids of a demonstration; the loss is due where the assistant's words and the ends of its turns stand.

    Raises `ConversationError` if the template refuses it, or writes earlier turns otherwise once later ones follow.
    """
    ids: list[int] = []
    mask: list[bool] = []
    answered, prompt = [], ""  # the turns up to the last answer, and the text before it
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        earlier = prompt
        prompt = _written(tokenizer, messages[:index], is_prompt=True)
        start = _end_of_answer(tokenizer, answered, earlier, prompt) if answered else 0
        opening = tokenizer(prompt[start:], add_special_tokens=False)["input_ids"]
        content = tokenizer(message["content"], add_special_tokens=False)["input_ids"] + [turn_end_id(tokenizer)]
        ids += opening + content
        mask += [False] * len(opening) + [True] * len(content)
        answered = messages[: index + 1]
    return MaskedConversation(ids, mask)


def _end_of_answer(tokenizer: PreTrainedTokenizerBase, answered: Messages, prompt: str, later: str) -> int:
    """Where in the text `later` the answer to `prompt` ends, its end token included.

    A template may strip the answer, and need not write a token at its end. What it writes of an answer may differ while
    it is the last (Qwen3's empty thoughts).
    """
    plain = prompt + answered[-1]["content"] + turn_end(tokenizer)
    if later.startswith(plain):
        return len(plain)
    whole = _written(tokenizer, answered)
    if whole.startswith(prompt):
        for last in (turn_end(tokenizer), answered[-1]["content"].strip()):
            place = whole.rfind(last, len(prompt))
            if place >= 0 and later.startswith(whole[: place + len(last)]):
                return place + len(last)
    raise ConversationError("the chat template rewrites earlier turns when later ones arrive")
