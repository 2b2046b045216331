"""A file of lines that is written bit by bit, can be gone on with after a kill, and takes its name when it is whole.

Until then it lies beside its place as `.NAME.KEY.part`. The key stands for all that decides what the lines are, so that
nobody goes on with a file of other options; such a file is removed by whoever comes next.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.rlhf.folder import StageError, sync_folder


class UnfinishedLines:
    """The lines of `out` that are there so far.

    Raises `StageError` where `out` cannot become a file: it is a folder, a device or one of the files `read`, or lies
    in a folder that is not there. What a link points to is written, not the link.
    """

    def __init__(self, out: Path, key: str, *, read: Iterable[Path] = ()):
        if out.is_dir():
            raise StageError(f"{out} is a folder: name the file to write")
        if out.exists() and not out.is_file():  # it would be renamed over: of a device nothing would be left
            raise StageError(f"{out} is no file: name the file to write")
        if any(out.exists() and source.exists() and out.samefile(source) for source in read):
            raise StageError(f"{out} is read for what is to be written: name another file to write")
        out = out.resolve()
        if not out.parent.is_dir():
            raise StageError(f"there is no folder {out.parent} to write {out.name} in")
        self.out, self.path = out, out.with_name(f".{out.name}.{key}.part")
        for other in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
            if other != self.path:
                other.unlink(missing_ok=True)

    def kept(self, *, step: int = 1) -> int:
        """How many whole lines stand, down to a multiple of `step`; what a kill left behind them is cut."""
        kept = end = place = 0
        with self.path.open("a+b") as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                place += len(line)
                if number % step == 0:
                    kept, end = number, place
            file.truncate(end)
        return kept

    def append(self, records: Iterable[Any]) -> None:
        """Writes a line of JSON for each record; once this returns, no kill of the program loses them.

        A loss of power may, up to what the system has not written yet: `finish` alone waits for the disk.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def finish(self) -> None:
        """Gives the file its name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.out)
        sync_folder(self.out.parent)
