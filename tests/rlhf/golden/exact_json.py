"""How golden numbers stand in a file: each fp32 number exactly, a list of them on one line: diffs can be read."""

from __future__ import annotations

import json
import re
from typing import Any


def as_json(record: dict[str, Any]) -> str:
    text = json.dumps(_rounded(record), indent=1)
    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


def _rounded(value: Any) -> Any:
    """Nine digits tell every fp32 number from its neighbours."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value
