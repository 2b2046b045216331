"""Preference data of other projects as rankings: Anthropic HH, TRL, MOSS-RLHF.

    python -m trainer.rlhf.imports {hh,trl,moss} FILE.jsonl rankings.jsonl

Each reader yields a `Ranking` of two, the preferred first. Records that carry no preference between two answers to one
prompt (equal or empty answers, or prompts that differ, as a few of HH's do) are skipped and counted.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.rlhf.data import ROLES, Completion, DataError, Messages, Ranking, numbered_lines, prompt_key

_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def from_hh(records: Iterable[Mapping[str, Any]]) -> Iterator[Ranking]:
    """`{"chosen", "rejected"}`: two transcripts "\\n\\nHuman: …\\n\\nAssistant: …" alike up to the last turn."""
    for number, record in enumerate(records, start=1):
        chosen, rejected = (_hh_turns(record, field, number) for field in ("chosen", "rejected"))
        yield from _pair(number, chosen, rejected)


def from_trl(records: Iterable[Mapping[str, Any]]) -> Iterator[Ranking]:
    """TRL's preference formats: plain or conversational, the prompt given or implied by what both share."""
    for number, record in enumerate(records, start=1):
        sides = []
        for field in ("chosen", "rejected"):
            if field not in record:
                raise DataError(f"record {number}", field, "is missing")
            prompt = record.get("prompt", [])
            if isinstance(record[field], str) and not prompt:
                raise DataError(f"record {number}", "prompt", "is missing, and plain text cannot imply it")
            head = _trl_turns(prompt, "user", "prompt", number)
            sides.append(head + _trl_turns(record[field], "assistant", field, number))
        yield from _pair(number, *sides)


def from_moss(records: Iterable[Mapping[str, Any]]) -> Iterator[Ranking]:
    """MOSS-RLHF's `{"chosen": [turn…], "rejected": [turn…]}`, the person and the model by turns, the model last.

    Part II's strength, `mean preference difference`, becomes the ranking's strength where it is above 0.
    """
    for number, record in enumerate(records, start=1):
        sides = []
        for field in ("chosen", "rejected"):
            turns = record.get(field)
            if not isinstance(turns, Sequence) or isinstance(turns, str) or len(turns) < 2:
                raise DataError(f"record {number}", field, "must be a list of at least two turns")
            roles = ["assistant" if (len(turns) - place) % 2 else "user" for place in range(len(turns))]
            sides.append([{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)])
        strength = record.get("mean preference difference")
        yield from _pair(number, *sides, strength=max(0.0, float(strength)) if strength is not None else None)


def write_rankings(rankings: Iterable[Ranking], path: Path) -> int:
    """Writes `rankings.jsonl` line by line and returns the number of lines."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for ranking in rankings:
            line = {
                "id": ranking.id,
                "prompt_id": ranking.prompt_id,
                "prompt": ranking.prompt,
                "completions": [{"id": c.id, "text": c.text} for c in ranking.completions],
                "ranks": list(ranking.ranks),
            }
            if ranking.strength is not None:
                line["strength"] = ranking.strength
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def _trl_turns(value: Any, role: str, field: str, number: int) -> Messages:
    """A text as one turn of `role`, or the turns that are there."""
    turns = [{"role": role, "content": value}] if isinstance(value, str) else value
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        raise DataError(f"record {number}", field, "must be a text or a list of {role, content}")
    return list(turns)


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)


def _hh_turns(record: Mapping[str, Any], field: str, number: int) -> Messages:
    text = record.get(field)
    if not isinstance(text, str):
        raise DataError(f"record {number}", field, "must be a string")
    before, *parts = _HH_TURN.split(text)
    if before.strip() or not parts:
        raise DataError(f"record {number}", field, "must begin with “\\n\\nHuman: ”")
    return [
        {"role": _HH_ROLES[speaker], "content": content.strip()}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]


def _pair(number: int, chosen: Messages, rejected: Messages, *, strength: float | None = None) -> Iterator[Ranking]:
    """The ranking of two conversations that differ in their last turn, which must be the assistant's."""
    if not all(turns and turns[-1]["role"] == "assistant" for turns in (chosen, rejected)):
        raise DataError(f"record {number}", "chosen", "must end, like “rejected”, with the assistant's turn")
    texts = [chosen[-1]["content"], rejected[-1]["content"]]
    if texts[0] == texts[1] or not all(texts) or chosen[:-1] != rejected[:-1]:
        return
    completions = (Completion("chosen", texts[0]), Completion("rejected", texts[1]))
    prompt = [{"role": turn["role"], "content": turn["content"]} for turn in chosen[:-1]]
    yield Ranking(str(number), prompt_key(prompt), prompt, completions, (1, 2), strength=strength)


READERS = {"hh": from_hh, "trl": from_trl, "moss": from_moss}


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts a file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.rlhf.imports", description="Preference data to rankings.")
    parser.add_argument("format", choices=READERS)
    parser.add_argument("source", type=Path, help="JSON lines, or one JSON list")
    parser.add_argument("rankings", type=Path)
    options = parser.parse_args(arguments)
    try:
        records = _read(options.source)
        rankings = list(READERS[options.format](records))
    except DataError as error:
        where = "" if str(error).startswith(options.source.name) else f"{options.source.name}, "
        print(f"{where}{error}", file=sys.stderr)
        return 1
    count = write_rankings(rankings, options.rankings)
    print(f"{count} rankings written, {len(records) - count} records without a preference skipped")
    return 0


def _read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        is_list = file.read(1024).lstrip().startswith("[")
    if not is_list:
        return [record for _, record, _ in numbered_lines(path)]
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(path.name, None, f"not JSON ({error})") from error
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(f"record {number}", None, "not a JSON object")
    return records


if __name__ == "__main__":
    sys.exit(main())
