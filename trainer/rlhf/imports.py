"""Preference data of other projects as rankings: Anthropic HH, TRL, MOSS-RLHF, PandaLM, UltraFeedback.

    python -m trainer.rlhf.imports {hh,trl,moss,pandalm,scored} FILE.jsonl… rankings.jsonl

Each reader yields a `Ranking` of two, of UltraFeedback of more, the preferred first, whose id is a hash of its prompt
and completions: what was imported from several sources can be put in one file. Records that carry no preference between
answers to one prompt (equal, empty or missing answers, an empty prompt, or prompts that differ, as a few of HH's do)
are skipped and counted. Errors name the place of a record: one of `places`, such as “file, line 3”, or without any its
number.

What this project's own exports say beside the pair is kept: `split`, `annotator`, `language`. Texts of TRL's standard
format that are no transcripts are taken as they are, a prompt of one turn and answers with the blank that joined them.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from itertools import count, groupby
from operator import itemgetter
from os.path import commonprefix
from pathlib import Path
from typing import Any

from trainer.rlhf.data import (
    ROLES,
    SPLITS,
    Completion,
    DataError,
    Messages,
    Ranking,
    prompt_key,
)
from trainer.rlhf.import_files import read_records, refuse_what_is_no_output, write_rankings

SIDES = ("chosen", "rejected")
PROMPTS, TEXTS = (
    ("prompt", "instruction"),
    ("text", "response"),
)  # other projects' names, the first goes first
SCORES = ("rank", "score", "overall_score", "fine-grained_score")  # the more the better, but of ranks
_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_HH_PROMPT = re.compile(r"\s*Human:.*\n\nAssistant:", re.DOTALL)
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}

Reader = Callable[..., Iterator[Ranking]]


def _told_apart(reader: Reader) -> Reader:
    """The reader, with a number behind the id of what it has read word for word before: -2, -3 …"""

    @wraps(reader)
    def read(records: Iterable[Mapping[str, Any]], places: Iterable[str] | None = None) -> Iterator[Ranking]:
        seen: Counter[str] = Counter()
        for ranking in reader(records, places):
            seen[ranking.id] += 1
            times = seen[ranking.id]
            yield ranking if times == 1 else replace(ranking, id=f"{ranking.id}-{times}")

    return read


@_told_apart
def from_hh(records: Iterable[Mapping[str, Any]], places: Iterable[str] | None = None) -> Iterator[Ranking]:
    """`{"chosen", "rejected"}`: two transcripts "\\n\\nHuman: …\\n\\nAssistant: …" alike up to the last turn.

    Words before them are the system's message, and what one speaker says in several turns running is one turn, as most
    chat templates want it. One that ends with the person's turn has no answer, or one that holds "\\n\\nHuman:" itself,
    and is skipped.
    """
    for record, where in _answered(records, places):
        yield from _hh_pair(record, where, [record.get(side) for side in SIDES])


@_told_apart
def from_trl(records: Iterable[Mapping[str, Any]], places: Iterable[str] | None = None) -> Iterator[Ranking]:
    """TRL's preference formats: plain or conversational, the prompt given or implied by what both share.

    A prompt that is given and that the turns hold too, as in ultrafeedback_binarized, or behind a system's message in
    orca_dpo_pairs, is taken once. Texts that are HH's transcripts are read as such; without a prompt, others have those
    words for it that both begin with. A `margin`, or else how far `score_chosen` lies over `score_rejected`, becomes
    the ranking's strength where it is above 0; two answers of one score are skipped.
    """
    for record, where in _answered(records, places):
        gap, margin = _gap(record, where), _finite(record, "margin", where)
        if gap == 0:
            continue
        strength = gap if margin is None else margin
        if transcripts := _transcripts(record):
            yield from _hh_pair(record, where, transcripts, strength=strength)
        else:
            yield from _pair(record, where, *_trl_sides(record, where), strength=strength)


@_told_apart
def from_moss(records: Iterable[Mapping[str, Any]], places: Iterable[str] | None = None) -> Iterator[Ranking]:
    """MOSS-RLHF's `{"chosen": [turn…], "rejected": [turn…]}`, the person and the model by turns, the model last.

    Part II's strength, `mean preference difference`, becomes the ranking's strength where it is above 0. A record with
    an empty turn, which MOSS-RLHF's own loader leaves out too, or with an answer to nothing is skipped.
    """
    for record, where in _answered(records, places):
        sides = [_moss_turns(record, side, where) for side in SIDES]
        if all(len(turns) > 1 and all(turn["content"].strip() for turn in turns) for turns in sides):
            yield from _pair(record, where, *sides, strength=_finite(record, "mean preference difference", where))


@_told_apart
def from_pandalm(records: Iterable[Mapping[str, Any]], places: Iterable[str] | None = None) -> Iterator[Ranking]:
    """PandaLM's test set: `instruction`, `input`, two responses, and which of them each of three annotators preferred.

    Two votes for one of them decide, and a record without (0 is a tie) is skipped. An instruction is one prompt,
    whatever its inputs: all of it falls on one side of the split.
    """
    for record, where in _placed(records, places):
        votes = [_field(record, f"annotator{number}", where) for number in (1, 2, 3)]
        instruction, given = _words(record, ("instruction",), where), _words({"input": "", **record}, ("input",), where)
        texts = [_words(record, (f"response{number}",), where) for number in (1, 2)]
        if max(votes.count(1), votes.count(2)) < 2:
            continue
        said = f"{instruction}\n\n{given}" if given.strip() else instruction
        texts = texts if votes.count(1) > votes.count(2) else texts[::-1]
        prompt_id = hashlib.sha256(instruction.encode()).hexdigest()[:12]
        sides = [[{"role": "user", "content": said}, {"role": "assistant", "content": text}] for text in texts]
        yield from (replace(ranking, prompt_id=prompt_id) for ranking in _pair(record, where, *sides))


@_told_apart
def from_scored(records: Iterable[Mapping[str, Any]], places: Iterable[str] | None = None) -> Iterator[Ranking]:
    """UltraFeedback's `{"instruction", "completions": [{"response", "overall_score"}…]}`, and what is made like it.

    The fields may have any of the names in `PROMPTS`, `TEXTS` and `SCORES`. Completions that are empty, have null for a
    score or were there before are left out; a record that leaves no two of different scores is skipped. How far the
    best score lies over the next is the ranking's strength.
    """
    for record, where in _placed(records, places):
        prompt, items = _words(record, PROMPTS, where), _field(record, "completions", where)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(where, "completions", "must be a list of {response, overall_score}")
        name = next((name for name in SCORES if any(item.get(name) is not None for item in items)), None)
        if name is None and not any(name in item for item in items for name in SCORES) and items:
            raise DataError(where, "completions", f"have none of {', '.join(SCORES)}")
        scores: dict[str, float] = {}
        for number, item in enumerate(items, start=1):
            here = f"{where}, completion {number}"
            text, score = _words(item, TEXTS, here).strip(), _finite(item, name, here)
            if text and score is not None:
                scores.setdefault(text, -score if name == "rank" else score)
        if prompt.strip() and len(set(scores.values())) > 1:
            texts = sorted(scores, key=scores.__getitem__, reverse=True)
            ordered = [scores[text] for text in texts]
            yield _ranking(
                record,
                [{"role": "user", "content": prompt}],
                [Completion(str(number), text) for number, text in enumerate(texts, start=1)],
                ranks=[ordered.index(score) + 1 for score in ordered],
                strength=None if name == "rank" else ordered[0] - ordered[1],
            )


def _placed(
    records: Iterable[Mapping[str, Any]], places: Iterable[str] | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each record with where it stands, for people."""
    return zip(records, places or (f"record {number}" for number in count(1)), strict=False)


def _answered(
    records: Iterable[Mapping[str, Any]], places: Iterable[str] | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """As `_placed`, without the records of which one side is null or says nothing."""
    for record, where in _placed(records, places):
        if not any(side in record and _is_blank(record[side]) for side in SIDES):
            yield record, where


def _is_blank(text: Any) -> bool:
    return text is None or (isinstance(text, str) and not text.strip())


def _finite(record: Mapping[str, Any], field: str, where: str) -> float | None:
    value = record.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(where, field, "must be a finite number")
    return float(value)


def _field(record: Mapping[str, Any], field: str, where: str) -> Any:
    if field not in record:
        raise DataError(where, field, "is missing")
    return record[field]


def _words(record: Mapping[str, Any], fields: Sequence[str], where: str) -> str:
    """The text of the first field that is there; JSON makes a truth value of the answer “true”."""
    value = _field(record, next((field for field in fields if field in record), fields[-1]), where)
    if not isinstance(value, str | int | float | None):
        raise DataError(where, fields[-1], "must be a string")
    return "" if value is None else str(value)


def _gap(record: Mapping[str, Any], where: str) -> float | None:
    """How far the score of the chosen answer lies over the other's, where both are known."""
    chosen, rejected = (_finite(record, f"score_{side}", where) for side in SIDES)
    return None if chosen is None or rejected is None else chosen - rejected


def _transcripts(record: Mapping[str, Any]) -> list[str] | None:
    """Both whole transcripts, where a record's texts are HH's and its prompt, if it has one, ends before the answer."""
    prompt, texts = record.get("prompt") or "", [record.get(side) for side in SIDES]
    if not all(isinstance(text, str) for text in (prompt, *texts)):
        return None
    is_hh = _HH_PROMPT.fullmatch(prompt.rstrip()) if prompt else _HH_PROMPT.match(texts[0])
    return [text if text.startswith(prompt) else prompt + text for text in texts] if is_hh else None


def _trl_sides(record: Mapping[str, Any], where: str) -> list[Messages]:
    """The two conversations, each with the prompt."""
    is_text = all(isinstance(record.get(side), str) for side in SIDES)
    if is_text and "prompt" not in record:
        record = _with_prompt(record, where)
    given = record.get("prompt") or ""
    prompt = [] if _is_blank(given) and not is_text else _trl_turns(given, "user", "prompt", where)
    sides = []
    for side in SIDES:
        turns = _trl_turns(_field(record, side, where), "assistant", side, where)
        sides.append(turns if _begins_anew(turns, prompt) else prompt + turns)
    if not any(_holds(turns, prompt) for turns in sides):
        reason = "is not among the turns of “chosen”, which begin a conversation of their own"
        raise DataError(where, "prompt", reason)
    return sides


def _with_prompt(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Two texts, with the words that both begin with as their prompt."""
    texts = [record[side] for side in SIDES]
    words = re.match(r"(?:.*\s)?", commonprefix(texts), re.DOTALL)[0]
    if not words.strip() and _can_be_told_apart(texts):
        raise DataError(where, "prompt", "is missing, and the texts begin with no word in common")
    parts = {side: text[len(words) :] for side, text in zip(SIDES, texts, strict=True)}
    return {**record, **parts, "prompt": words.strip()}


def _trl_turns(value: Any, role: str, field: str, where: str) -> Messages:
    """A text as one turn of `role`, or the turns that are there, each its role and its content alone."""
    turns = [{"role": role, "content": value}] if isinstance(value, str) else value
    if not isinstance(turns, list) or not all(_is_turn(turn) for turn in turns):
        raise DataError(where, field, "must be a text or a list of {role, content}")
    return [{"role": turn["role"], "content": turn["content"] or ""} for turn in turns]


def _is_turn(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content", 0), str | None)


def _begins_anew(turns: Messages, prompt: Messages) -> bool:
    """Whether the turns stand for the whole conversation, and do not go on from the prompt that is given."""
    if not (turns and prompt):
        return not prompt
    first, before = turns[0]["role"], prompt[-1]["role"]
    return first == "system" or first == before == "user" or _holds(turns[: len(prompt)], prompt)


def _holds(turns: Messages, part: Messages) -> bool:
    """Whether a part of a conversation stands in it, white space apart."""
    whole, sought = ([(turn["role"], turn["content"].split()) for turn in each] for each in (turns, part))
    return any(whole[start : start + len(sought)] == sought for start in range(len(whole) - len(sought) + 1))


def _moss_turns(record: Mapping[str, Any], field: str, where: str) -> Messages:
    turns = record.get(field)
    if not isinstance(turns, list):
        raise DataError(where, field, "must be a list of turns")
    for place, turn in enumerate(turns):
        if not isinstance(turn, str | None):
            raise DataError(where, f"{field}[{place}]", "must be a string")
    roles = ["assistant" if (len(turns) - place) % 2 else "user" for place in range(len(turns))]
    return [{"role": role, "content": turn or ""} for role, turn in zip(roles, turns, strict=True)]


def _hh_pair(
    record: Mapping[str, Any], where: str, texts: Sequence[Any], *, strength: float | None = None
) -> Iterator[Ranking]:
    sides = [_hh_turns(text, side, where) for side, text in zip(SIDES, texts, strict=True)]
    if all(turns[-1]["role"] == "assistant" for turns in sides):
        yield from _pair(record, where, *sides, strength=strength)


def _hh_turns(text: Any, field: str, where: str) -> Messages:
    if not isinstance(text, str):
        raise DataError(where, field, "must be a string")
    system, *parts = _HH_TURN.split(text.lstrip())
    if parts[:1] != ["Human"]:
        raise DataError(where, field, "must begin with “\\n\\nHuman: ”")
    said = [("system", system)] if system.strip() else []
    said += zip(map(_HH_ROLES.get, parts[::2]), parts[1::2], strict=True)
    return [
        {"role": role, "content": "\n\n".join(content.strip() for _, content in turns).strip()}
        for role, turns in groupby(said, key=itemgetter(0))
    ]


def _pair(
    record: Mapping[str, Any], where: str, chosen: Messages, rejected: Messages, *, strength: float | None = None
) -> Iterator[Ranking]:
    """The ranking of two conversations that differ in their last turn, which must be the assistant's."""
    if not all(turns and turns[-1]["role"] == "assistant" for turns in (chosen, rejected)):
        raise DataError(where, "chosen", "must end, like “rejected”, with the assistant's turn")
    if len(chosen) < 2:
        raise DataError(where, "chosen", "has no turn before the answer, which would be its prompt")
    texts = [chosen[-1]["content"], rejected[-1]["content"]]
    prompt = chosen[:-1]
    if not _can_be_told_apart(texts) or _is_blank(prompt[-1]["content"]) or prompt != rejected[:-1]:
        return
    completions = [Completion(side, text) for side, text in zip(SIDES, texts, strict=True)]
    yield _ranking(record, prompt, completions, ranks=(1, 2), strength=strength)


def _ranking(
    record: Mapping[str, Any],
    prompt: Messages,
    completions: Sequence[Completion],
    *,
    ranks: Sequence[int],
    strength: float | None,
) -> Ranking:
    said = [{"role": completion.id, "content": completion.text} for completion in completions]
    split = record.get("split")
    return Ranking(
        id=prompt_key(prompt + said),
        prompt_id=prompt_key(prompt),
        prompt=prompt,
        completions=tuple(completions),
        ranks=tuple(ranks),
        split=split if split in SPLITS else None,
        strength=None if strength is None else max(0.0, strength),
        annotator=_name(record, "annotator"),
        language=_name(record, "language"),
    )


def _can_be_told_apart(texts: Sequence[str]) -> bool:
    """Whether two answers are there, and differ in more than the white space around them."""
    return not any(map(_is_blank, texts)) and texts[0].strip() != texts[1].strip()


def _name(record: Mapping[str, Any], field: str) -> str | None:
    """What our own exports say there; other projects' columns of that name may hold anything."""
    value = record.get(field)
    return value if value and isinstance(value, str) else None


READERS = {"hh": from_hh, "trl": from_trl, "moss": from_moss, "pandalm": from_pandalm, "scored": from_scored}


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts files of one format; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.rlhf.imports", description="Preference data to rankings.")
    parser.add_argument("format", choices=READERS)
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="JSON lines or a JSON list, or either gzipped, or Parquet",
    )
    parser.add_argument("rankings", type=Path)
    parser.add_argument(
        "--held-out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a published test split: these records are measured on, all others trained on",
    )
    options = parser.parse_args(arguments)
    sides = (("train", options.sources), ("held_out", options.held_out))
    try:
        refuse_what_is_no_output(options.rankings)
        placed = [
            (record | ({"split": side} if options.held_out else {}), where)
            for side, sources in sides
            for source in sources
            for record, where in read_records(source)
        ]
        records, places = [record for record, _ in placed], [where for _, where in placed]
        rankings = _with_telling_splits(list(READERS[options.format](records, places)))
        if not rankings:
            names = ", ".join(source.name for _, sources in sides for source in sources)
            raise DataError(names, None, f"no preference among {len(records)} records")
        written = write_rankings(rankings, options.rankings)
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{written} rankings written, {len(records) - written} records without a preference skipped")
    return 0


def _with_telling_splits(rankings: list[Ranking]) -> list[Ranking]:
    """The rankings, without their splits where none is held out: else the reward stage had nothing to measure on."""
    if any(ranking.split == "held_out" for ranking in rankings):
        return rankings
    return [replace(ranking, split=None) for ranking in rankings]


if __name__ == "__main__":
    sys.exit(main())
