"""What the columns of an export hold. No value is ever missing, and no list is ever empty.

Loaders that read a file block by block (`datasets` does) take a column's type from the first block: a column that is
null or empty there and a number further on cannot be loaded. So a number that was not asked for is 0 or −1, as the
format says, and what may be an empty list or object is JSON text.
"""

import json
from typing import Any

TEXT, WHOLE, REAL, TRUTH = "text", "whole number", "number", "true or false"
MESSAGES = "list of {role, content}"
TEXTS = "list of texts"
WHOLES = "list of whole numbers"
COMPLETIONS = "list of {id, text, checkpoint, rank, position}"


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def arrow_schema(columns: dict[str, str]):
    """The Parquet types of COLUMNS of a format."""
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    completion = pa.struct(
        [
            ("id", pa.int64()),
            ("text", pa.string()),
            ("checkpoint", pa.string()),
            ("rank", pa.int64()),
            ("position", pa.int64()),
        ]
    )
    types = {
        TEXT: pa.string(),
        WHOLE: pa.int64(),
        REAL: pa.float64(),
        TRUTH: pa.bool_(),
        MESSAGES: pa.list_(message),
        TEXTS: pa.list_(pa.string()),
        WHOLES: pa.list_(pa.int64()),
        COMPLETIONS: pa.list_(completion),
    }
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])
