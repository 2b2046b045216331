"""What a state is made of, as a key: going on with a state of other inputs would mix two runs in silence."""

from __future__ import annotations

import hashlib
import json
import shutil
from operator import attrgetter
from pathlib import Path
from typing import Any

from trainer.rlhf.config import READ_BY, RunConfig
from trainer.rlhf.folder import write_text
from trainer.rlhf.processes import Processes
from trainer.rlhf.versions import versions


def key_of(*parts: Any) -> str:
    """Sixteen hex digits for options, files and folders (paths), and the versions of what computes."""
    named = [[_name(part), *_signatures(part)] if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps([named, versions()], sort_keys=True).encode()).hexdigest()[:16]


def settings_of(stage: str, config: RunConfig) -> list[str]:
    """All that the stage reads of the configuration, as a part of a key."""
    return [repr(attrgetter(key)(config)) for key in READ_BY[stage]]


def state_of(path: Path, key: str, processes: Processes) -> Path:
    """The folder of a state that these inputs made; what others left there is removed.

    The key goes first and comes last: a kill in between leaves a state that fits no inputs.
    """
    if processes.is_first:
        stamp = path / ".key"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != key:
            stamp.unlink(missing_ok=True)
            if path.exists():
                shutil.rmtree(path)
            path.mkdir(parents=True)
            write_text(stamp, key)
    processes.barrier()
    return path


def _name(path: Path) -> str:
    """The same from wherever it is named."""
    return str(path.resolve() if path.exists() else path)


def _signatures(path: Path) -> list[list[Any]]:
    """Name, size and time of change of a file or of those in a folder: no reading of gigabytes."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
