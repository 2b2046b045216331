"""Log files of the private servers: appended to, and begun anew when they have grown."""

from pathlib import Path
from typing import BinaryIO

LARGEST_LOG_BYTES = 10_000_000


def open_log(path: Path) -> BinaryIO:
    """Open `path` at its end; a grown one is first renamed to `….old`, over the previous `….old`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.old"))
    return open(path, "ab")
