"""What a state is made of: going on with a state of other inputs would mix two runs in silence.

`reward` and `evaluate` key their state to it, and make anew what others made. `ppo`, `sft` and `pretrain`, whose every
step rests on the last, refuse by name to go on with others. All keep a digest of each, so that a finished stage can say
what has changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

from trainer.rlhf.checkpoint import model_files, sha256_of
from trainer.rlhf.config import READ_BY, RunConfig
from trainer.rlhf.encoding import ENCODING
from trainer.rlhf.folder import RunFolder, write_json, write_text
from trainer.rlhf.processes import Processes
from trainer.rlhf.versions import versions


def key_of(*parts: Any) -> str:
    """Sixteen hex digits for options, files and folders (paths), the versions of what computes and of the encoding."""
    named = [[_name(part), *_signatures(part)] if isinstance(part, Path) else part for part in parts]
    return hashlib.sha256(json.dumps([named, versions(), ENCODING], sort_keys=True).encode()).hexdigest()[:16]


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


def contents_of(inputs: Mapping[str, Path], processes: Processes) -> dict[str, str | None]:
    """A digest of each file and folder that a stage is made of, to be taken before the stage reads any of them.

    Of what is written meanwhile a later one would say that it was learned.
    """
    # The first process reads them for all: the base of eight would be read eight times from one disk.
    own = {0: {name: content_of(path) for name, path in inputs.items()}} if processes.is_first else {}
    [contents] = processes.gather(own)
    return contents


def check_inputs(folder: RunFolder, stage: str, now: Mapping[str, str | None], processes: Processes) -> None:
    """Keeps in `{stage}/inputs.json` what the stage is made of, as digests by name (`contents_of`).

    Raises `StageError` with the names of those that are not what its saved state was made of.
    """
    kept = folder.stage(stage) / "inputs.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if folder.has_state(stage) and kept.exists() else now
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise folder.other_contents(stage, changed)
    if processes.is_first:
        write_json(kept, now)


def keep_inputs(folder: RunFolder, stage: str, inputs: Iterable[Path], processes: Processes) -> None:
    """Keeps in `{stage}/inputs.json` a digest of those that lie in the run folder, by their names in it."""
    if processes.is_first:
        names = {name: path for path in inputs if path.exists() and (name := _name_in(folder, path)) is not None}
        write_json(folder.stage(stage) / "inputs.json", {name: content_of(path) for name, path in names.items()})


def changed_inputs(folder: RunFolder, stage: str) -> list[str]:
    """What lies in the run folder and is no longer what the stage read; what is gone is not named."""
    kept = folder.path / stage / "inputs.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    models = {} if stage in ("reward", "evaluate") else models_of(folder.config)  # which have the names of their keys
    paths = {name: models.get(name, folder.path / name) for name in before}
    now = {name: content_of(path) for name, path in paths.items() if _name_in(folder, path) is not None}
    return [name for name, content in now.items() if content not in (None, before[name])]


def models_of(config: RunConfig) -> dict[str, Path]:
    """The models that training starts from, as inputs by the names of their keys."""
    return {key: Path(name) for key in ("base_model", "parent") if (name := getattr(config, key)) is not None}


def content_of(path: Path) -> str | None:
    """A digest; of a checkpoint its manifest's, which has one of every file. Of what is not there, None.

    So of a model that is named on a hub: what the name stands for there is not looked at.
    """
    if not path.is_dir():
        return sha256_of(path) if path.exists() else None
    if (path / "manifest.json").exists():
        return sha256_of(path / "manifest.json")
    files = [[name, sha256_of(file)] for name, file in model_files(path).items()]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _name(path: Path) -> str:
    """The same from wherever it is named."""
    return str(path.resolve() if path.exists() else path)


def _name_in(folder: RunFolder, path: Path) -> str | None:
    """What the path is called in the run folder, however both are named; None for one that is not in it.

    A link in the folder is in it wherever it leads.
    """
    for plain in (os.path.abspath, os.path.realpath):
        with suppress(ValueError):
            return Path(plain(path)).relative_to(plain(folder.path)).as_posix()
    return None


def _signatures(path: Path) -> list[list[Any]]:
    """Name, size and time of change of a file or of those in a folder: no reading of gigabytes."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
