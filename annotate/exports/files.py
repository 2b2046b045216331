"""Records to the bytes of a file, some at a time: JSON lines, one JSON array, Parquet. Memory stays flat."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from annotate.exports.columns import arrow_schema

CHUNK_BYTES = 2**16
ROWS_PER_GROUP = 2000
Records = Iterator[dict[str, Any]]


def jsonl_file(records: Records, columns: dict[str, str]) -> Iterator[bytes]:
    yield from joined(as_line(record) + b"\n" for record in records)


def json_file(records: Records, columns: dict[str, str]) -> Iterator[bytes]:
    """One array, a record a line. A file cut short is no JSON, so nobody takes it for the whole."""

    def pieces():
        before = b"[\n"
        for record in records:
            yield before + as_line(record)
            before = b",\n"
        yield b"\n]\n" if before == b",\n" else b"[]\n"

    yield from joined(pieces())


def parquet_file(records: Records, columns: dict[str, str]) -> Iterator[bytes]:
    """Row groups of ROWS_PER_GROUP. Without its last bytes, the footer, a Parquet file cannot be opened."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, sink = arrow_schema(columns), Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:
        while group := list(islice(records, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            yield sink.taken()
    yield sink.taken()


class Sink:
    """Where the Parquet writer writes; `taken` hands out what came since the last time."""

    def __init__(self):
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        data, self.pieces = b"".join(self.pieces), []
        return data


def as_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of about CHUNK_BYTES: a write to the network each, not one a line."""
    waiting, size = [], 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


FILE_TYPES = {"jsonl": jsonl_file, "json": json_file, "parquet": parquet_file}
MEDIA_TYPES = {
    "jsonl": "application/jsonl",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
