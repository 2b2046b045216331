"""Rankings, prompts, demonstrations and corpora: JSON lines in, checked records out.

Every reader names file, line and field in its errors. Nothing is tokenised here (see `encoding.py`), nothing is
shuffled, and unknown fields are ignored, so that files of other tools with more columns can be read as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
SPLITS = ("train", "held_out")
HALF_MARKS = (rb"\ud", rb"\uD", b"\xed")  # without one of these a line holds no half of a surrogate pair
Messages = list[dict[str, str]]


class DataError(ValueError):
    """A line that cannot be used; the message names file, line and field."""

    def __init__(self, where: str, field: str | None, reason: str):
        super().__init__(f"{where}, field “{field}”: {reason}" if field else f"{where}: {reason}")


@dataclass(frozen=True)
class Completion:
    """One answer to a prompt, and where it is known as which tokens it was sampled, the one that ended it too."""

    id: str
    text: str
    token_ids: array[int] | None = field(default=None, hash=False)  # 4 bytes each, where a tuple has 36


@dataclass(frozen=True)
class Ranking:
    """One annotator's order of K completions of one prompt: rank 1 is best, equal ranks are ties."""

    id: str
    prompt_id: str
    prompt: Messages
    completions: tuple[Completion, ...]
    ranks: tuple[int, ...]
    split: str | None = None
    weight: float = 1.0
    strength: float | None = None
    annotator: str | None = None
    language: str | None = None
    checkpoints: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for a completion."""

    id: str
    messages: Messages
    split: str | None = None  # as the file has it; without one a prompt is trained on
    language: str | None = None


@dataclass(frozen=True)
class Demonstration:
    """A conversation whose assistant turns are to be imitated."""

    id: str
    messages: Messages


def read_rankings(path: Path | str) -> list[Ranking]:
    """All rankings of a `rankings.jsonl`; raises `DataError` at the first line that is not one."""
    return [parse_ranking(record, where) for record, where in _records(path)]


def read_prompts(path: Path | str) -> list[Prompt]:
    """All prompts of a `prompts.jsonl`; two that differ must not share an id, by which results are put together."""
    prompts: list[Prompt] = []
    seen: dict[str, tuple[Messages, str]] = {}
    for record, where in _records(path):
        messages = _messages(record, "messages", where)
        prompts.append(
            Prompt(
                id=_text(record, "id", where, default=prompt_key(messages)),
                messages=messages,
                split=_split(record, where),
                language=_optional(record, "language", str, where),
            )
        )
        first, there = seen.setdefault(prompts[-1].id, (messages, where))
        if first != messages:
            raise same_id(where, there, prompts[-1].id)
    return prompts


def read_completions(path: Path | str) -> Iterator[tuple[str, Messages, tuple[Completion, ...]]]:
    """Id, prompt and completions of each `{"prompt", "completions": [{"id", "text"}…]}` or `{"prompt", "text"}`."""
    for number, (record, where) in enumerate(_records(path)):
        prompt = _messages(record, "prompt", where)
        identity = _text(record, "id", where, default=str(number))
        if "completions" in record:
            yield identity, prompt, _completions(record, where, least=1)
        else:
            yield identity, prompt, (Completion("0", _text(record, "text", where)),)


def read_demonstrations(path: Path | str) -> list[Demonstration]:
    """All conversations of a `demonstrations.jsonl`; each must end with the assistant's turn."""
    demonstrations = []
    for record, where in _records(path):
        messages = _messages(record, "messages", where, ends_with="assistant")
        demonstrations.append(Demonstration(_text(record, "id", where, default=prompt_key(messages)), messages))
    return demonstrations


def read_corpus(path: Path | str) -> Iterator[str]:
    """Documents of a corpus: `{"text"}` lines of a `.jsonl`, or the paragraphs of a text file (blank line between)."""
    path = Path(path)
    if path.suffix == ".jsonl":
        for record, where in _records(path):
            yield _text(record, "text", where)
        return
    paragraph: list[str] = []
    for line in _text_lines(path):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).rstrip("\n")
            paragraph = []
    if paragraph:
        yield "".join(paragraph).rstrip("\n")


def same_id(where: str, before: str, identity: str) -> DataError:
    """What is wrong with a line that has the id of another one, `before` it in the same file."""
    return DataError(where, "id", f"{before.rpartition(', ')[2]} has the id {identity} too")


def _text_lines(path: Path) -> Iterator[str]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                where = f"{path.name}, line {number}"
                raise DataError(where, None, f"not UTF-8 ({error.reason} at byte {error.start + 1})") from error
            yield from io.StringIO(text, newline=None)


def prompt_key(messages: Messages) -> str:
    """A short content hash: the same conversation has the same key wherever it was read."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def prompt_draw(prompt_id: str, seed: int) -> float:
    """A number from 0 to 1 that depends on nothing but prompt and seed; two prompts all but surely differ in it."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest()[:8]) / 2**64


def _records(path: Path | str) -> Iterator[tuple[dict[str, Any], str]]:
    return ((record, where) for _, record, where in numbered_lines(path))


def numbered_lines(path: Path | str) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Each line's first byte, its object, and where it stands, for people; raises `DataError` where it is none."""
    path = Path(path)
    with path.open("rb") as lines:
        yield from numbered_records(lines, path.name)


def numbered_records(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    """As `numbered_lines`, of a file that is open."""
    end = 0
    for number, line in enumerate(lines, start=1):
        where, start, end = f"{name}, line {number}", end, end + len(line)
        if not line.strip():
            continue
        try:
            record = json.loads(line.rstrip(b"\r\n"))  # else what is cut short is found wrong in the next line
        except json.JSONDecodeError as error:
            raise DataError(where, None, f"not JSON ({error.msg}: column {error.colno})") from error
        except UnicodeDecodeError as error:
            raise DataError(where, None, f"not UTF-8 ({error.reason} at byte {error.start + 1})") from error
        except (RecursionError, ValueError) as error:  # a number of thousands of digits
            raise DataError(where, None, f"not to be read ({error})") from error
        check_object(record, where, may_have_halves=any(mark in line for mark in HALF_MARKS))
        yield start, record, where


def check_object(record: Any, where: str, *, may_have_halves: bool = True) -> None:
    """Raises `DataError` unless a record is an object whose texts can be written as UTF-8."""
    if not isinstance(record, dict):
        raise DataError(where, None, "not a JSON object")
    for name, value in record.items() if may_have_halves else ():
        try:
            json.dumps({name: value}, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # JSON may escape half of a pair, which is no character
            half = error.object[error.start]
            raise DataError(where, ascii(name)[1:-1], f"half a character (\\u{ord(half):04x} alone)") from error


def parse_ranking(record: dict[str, Any], where: str) -> Ranking:
    """One line of a `rankings.jsonl`; raises `DataError` if it is not one."""
    prompt = _messages(record, "prompt", where)
    completions = _completions(record, where)
    return Ranking(
        id=_text(record, "id", where),
        prompt_id=_text(record, "prompt_id", where, default=prompt_key(prompt)),
        prompt=prompt,
        completions=completions,
        ranks=_ranks(record, len(completions), where),
        split=_split(record, where),
        weight=_number(record, "weight", where, default=1.0),
        strength=_number(record, "strength", where, default=None),
        annotator=_optional(record, "annotator", str, where),
        language=_optional(record, "language", str, where),
        checkpoints=_checkpoints(record, len(completions), where),
    )


def _completions(record: dict[str, Any], where: str, *, least: int = 2) -> tuple[Completion, ...]:
    items = record.get("completions")
    if not isinstance(items, list) or len(items) < least:
        raise DataError(where, "completions", f"must be a list of at least {least} {{id, text}}")
    completions = []
    for position, item in enumerate(items):
        field = f"completions[{position}]"
        if not isinstance(item, dict) or not isinstance(item.get("text"), str):
            raise DataError(where, f"{field}.text", "must be a string")
        identity = item.get("id", str(position))
        if not isinstance(identity, str | int) or isinstance(identity, bool):
            raise DataError(where, f"{field}.id", "must be a string or a whole number")
        completions.append(Completion(str(identity), item["text"], _token_ids(item, field, where)))
    if len({completion.id for completion in completions}) < len(completions):
        raise DataError(where, "completions", "two completions have the same id")
    return tuple(completions)


def _token_ids(item: dict[str, Any], name: str, where: str) -> array[int] | None:
    ids = item.get("token_ids")
    if ids is None:
        return None
    try:
        if isinstance(ids, list) and ids and bool not in map(type, ids):
            return array("I", ids)
    except (OverflowError, TypeError):  # an array takes what fits, of whole numbers alone
        pass
    raise DataError(where, f"{name}.token_ids", "must be a list of token ids, at least one")


def _ranks(record: dict[str, Any], count: int, where: str) -> tuple[int, ...]:
    ranks = record.get("ranks")
    if not isinstance(ranks, list) or not all(type(rank) is int and 1 <= rank < 2**31 for rank in ranks):
        raise DataError(where, "ranks", "must be a list of whole numbers from 1, the best, up")
    if len(ranks) != count:
        raise DataError(where, "ranks", f"{len(ranks)} ranks for {count} completions")
    return tuple(ranks)


def _checkpoints(record: dict[str, Any], count: int, where: str) -> tuple[str, ...] | None:
    checkpoints = record.get("checkpoints")
    if checkpoints is None:
        return None
    if not isinstance(checkpoints, list) or len(checkpoints) != count:
        raise DataError(where, "checkpoints", f"must be a list of {count}, one a completion")
    return tuple(str(checkpoint) for checkpoint in checkpoints)


def _messages(record: dict[str, Any], field: str, where: str, *, ends_with: str | None = None) -> Messages:
    messages = record.get(field)
    if not isinstance(messages, list) or not messages:
        raise DataError(where, field, "must be a list of at least one {role, content}")
    for position, message in enumerate(messages):
        here = f"{field}[{position}]"
        if not isinstance(message, dict):
            raise DataError(where, here, "must be an object {role, content}")
        if message.get("role") not in ROLES:
            raise DataError(where, f"{here}.role", f"must be one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise DataError(where, f"{here}.content", "must be a string")
    if ends_with and messages[-1]["role"] != ends_with:
        raise DataError(where, f"{field}[{len(messages) - 1}].role", f"the last turn must be the {ends_with}'s")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _split(record: dict[str, Any], where: str) -> str | None:
    split = record.get("split")
    if split is not None and split not in SPLITS:
        raise DataError(where, "split", f"must be one of {', '.join(SPLITS)}")
    return split


def _text(record: dict[str, Any], field: str, where: str, *, default: str | None = None) -> str:
    value = record.get(field, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(where, field, "is missing" if field not in record else "must be a string")
    return value


def _optional(record: dict[str, Any], field: str, kind: type, where: str) -> Any:
    value = record.get(field)
    if value is not None and not isinstance(value, kind):
        raise DataError(where, field, f"must be a {'string' if kind is str else kind.__name__}")
    return value


def _number(record: dict[str, Any], field: str, where: str, *, default: float | None) -> float | None:
    value = record.get(field)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise DataError(where, field, "must be a number from 0 up")
    return float(value)
