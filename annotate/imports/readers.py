"""JSON lines, CSV and Parquet, row by row: pairs of a line number and what stands there, or why it cannot be read.

Bytes that are no UTF-8 arrive as surrogate halves and are refused where the text is checked, so that one bad line does
not hide the next. A Parquet file has no lines: its rows are counted from 1.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.imports.records import FIELDS, BadRecord
from annotate.stored_sentences import in_readers_language

LONGEST_LINE = 2**20  # bytes
ROWS_AT_A_TIME = 200
LARGEST_PARQUET = 2**30  # bytes once unpacked
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
Row = tuple[int, dict[str, Any] | BadRecord]


class UnreadableFile(ValueError):
    """The file as a whole is not what it was said to be; the message is a sentence."""


def jsonl_rows(file: BinaryIO) -> Iterator[Row]:
    refuse_utf_16(file)
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
        if len(line) > LONGEST_LINE:
            yield number, BadRecord(_("The line is longer than 1 MiB. The lines after it were not read."))
            return
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="surrogateescape")
        if text.strip():
            yield number, json_object(text)


def json_object(text: str) -> dict[str, Any] | BadRecord:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        return BadRecord(
            _("This is not JSON: %(reason)s at column %(column)d.")
            % {"reason": in_readers_language(error.msg), "column": error.colno}
        )
    except (ValueError, RecursionError):
        return BadRecord(_("This is not JSON that can be read: too deep, or a number too long."))
    return found if isinstance(found, dict) else BadRecord(_("This is JSON, but not an object {…}."))


def csv_rows(file: BinaryIO) -> Iterator[Row]:
    refuse_utf_16(file)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = (bounded(line) for line in iter(lambda: text.readline(LONGEST_LINE + 1), ""))
        header = next(lines, "")
        delimiter = next((mark for mark in ",;\t" if known_columns(header, mark)), None)
        if delimiter is None:
            raise UnreadableFile(_("The first line must name the columns, one of them “prompt” or “messages”."))
        columns = cells(header, delimiter)
        if len(set(columns)) < len(columns):
            raise UnreadableFile(_("Two columns have the same name."))
        yield from csv_table(csv.reader(lines, delimiter=delimiter, strict=True), columns)
    finally:
        text.detach()


def csv_table(reader, columns: list[str]) -> Iterator[Row]:
    number = 2
    try:
        for row in reader:
            if len(row) > len(columns):
                yield number, BadRecord(_("There are more cells than columns. Is a quotation mark missing?"))
            elif any(cell.strip() for cell in row):
                yield number, dict(zip(columns, row, strict=False))
            number = reader.line_num + 2
    except csv.Error as error:
        yield (
            number,
            BadRecord(_("This is not CSV: %(reason)s. The lines after it were not read.") % {"reason": str(error)}),
        )


def bounded(line: str) -> str:
    if len(line) > LONGEST_LINE:
        raise csv.Error(_("a line is longer than 1 MiB"))
    return line


def cells(header: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]


def known_columns(header: str, delimiter: str) -> bool:
    return not {"prompt", "messages"}.isdisjoint(cells(header, delimiter))


def parquet_rows(file: BinaryIO) -> Iterator[Row]:
    import pyarrow  # a web process that imports no Parquet file does without its 60 MB
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.PythonFile(file, mode="r"))
        unpacked = sum(table.metadata.row_group(i).total_byte_size for i in range(table.metadata.num_row_groups))
        if unpacked > LARGEST_PARQUET:
            raise UnreadableFile(_("This Parquet file unpacks to more than 1 GiB. Split it."))
        columns = [name for name in table.schema_arrow.names if name in FIELDS]
        if {"prompt", "messages"}.isdisjoint(columns):
            raise UnreadableFile(_("There is no column “prompt” or “messages”."))
        number = 1
        for batch in table.iter_batches(batch_size=ROWS_AT_A_TIME, columns=columns, use_threads=False):
            for index in range(batch.num_rows):
                yield number, parquet_row(batch, index)
                number += 1
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UnreadableFile(_("This cannot be read as Parquet: %(reason)s") % {"reason": reason}) from None


def parquet_row(batch, index: int) -> dict[str, Any] | BadRecord:
    try:
        return {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    except (UnicodeDecodeError, ValueError, OverflowError):
        return BadRecord(_("There is something in it that is no UTF-8 text."))


def refuse_utf_16(file: BinaryIO) -> None:
    start = file.read(2)
    file.seek(0)
    if start in UTF_16_MARKS:
        raise UnreadableFile(_("This file is in UTF-16. Save it as UTF-8."))


READERS = {"jsonl": jsonl_rows, "csv": csv_rows, "parquet": parquet_rows}
