"""The files of an import: other projects' records in, whatever they are packed in, and `rankings.jsonl` out."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from trainer.rlhf.data import DataError, Ranking, check_object, numbered_lines, numbered_records

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"  # files of these kinds begin with them
Records = list[tuple[dict[str, Any], str]]  # each with where it stands, for people


def read_records(path: Path) -> Records:
    """The records of JSON lines or one JSON list, gzipped or not, or of a Parquet file."""
    with path.open("rb") as file:
        start = file.read(4)
    if start == _PARQUET:
        return _parquet_records(path)
    try:
        with (gzip.open if start.startswith(_GZIP) else open)(path, "rb") as file:
            is_list = file.read(1024).removeprefix(BOM_UTF8).lstrip().startswith(b"[")
            file.seek(0)
            if not is_list:
                return [(record, where) for _, record, where in numbered_records(file, path.name)]
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path.name, None, f"not a whole gzip file ({error})") from error
    try:
        records = json.loads(content)
    except (RecursionError, ValueError) as error:  # not JSON, or not UTF-8
        raise DataError(path.name, None, f"not JSON ({error})") from error
    placed = [(record, f"{path.name}, record {number}") for number, record in enumerate(records, start=1)]
    for record, where in placed:
        check_object(record, where)
    return placed


def _parquet_records(path: Path) -> Records:
    try:
        with ParquetFile(path) as file:
            rows = [row for batch in file.iter_batches() for row in batch.to_pylist()]
    except (ArrowException, OSError, ValueError) as error:  # of bytes that are no UTF-8 a ValueError
        reason = str(error).partition("\n")[0]
        raise DataError(path.name, None, f"not to be read as Parquet ({reason})") from error
    return [(row, f"{path.name}, row {number}") for number, row in enumerate(rows, start=1)]


def write_rankings(rankings: Iterable[Ranking], path: Path) -> int:
    """Writes `rankings.jsonl`, the whole or nothing, and returns the number of lines."""
    temporary, lines = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for ranking in rankings:
                file.write(json.dumps(_line(ranking), ensure_ascii=False) + "\n")
                lines += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return lines


def _line(ranking: Ranking) -> dict[str, Any]:
    line = {
        "id": ranking.id,
        "prompt_id": ranking.prompt_id,
        "prompt": ranking.prompt,
        "completions": [{"id": c.id, "text": c.text} for c in ranking.completions],
        "ranks": list(ranking.ranks),
    }
    said = {name: getattr(ranking, name) for name in ("strength", "split", "annotator", "language")}
    return line | {name: value for name, value in said.items() if value is not None}


def refuse_what_is_no_output(path: Path) -> None:
    """Raises `DataError` for a file of other records: who forgets to name the output names the last source as it."""
    if not path.is_file():
        return
    try:
        first = next((record for _, record, _ in numbered_lines(path)), None)
    except DataError:
        first = {}
    if first is not None and "ranks" not in first:
        raise DataError(path.name, None, "exists and holds no rankings; the file to write comes last")
