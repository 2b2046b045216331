"""Checkpoints: safetensors files and a manifest with their sha256, never pickle.

A state holds everything the next step depends on, and no generator's: every random draw is a function of the seed and
of where it is drawn, such as (seed, update, place, sample), see `rollout.py`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.rlhf.folder import StageError, files_under, new_folder

# What a model computes and writes by: weights, settings, stop ids, tokenizer with its templates, code of its own. Not
# what is written about it, such as a README or a manifest.
MODEL_FILES = (
    *("*.safetensors", "*.bin", "*.json", "*.py"),
    *("*.model", "*.tiktoken", "*.jinja", "vocab.txt", "merges.txt"),
)
SAVING_SHARE = 0.1  # of the time may go into saving states


class CheckpointError(StageError):
    """A checkpoint's files are missing or are not those its manifest describes."""


def write_checkpoint(path: Path, tensors: Mapping[str, Mapping[str, Tensor]], record: Mapping[str, Any]) -> None:
    """Writes `{name}.safetensors` for each entry and `manifest.json`, whole or not at all."""
    with new_folder(path) as folder:
        for name, state in tensors.items():
            save_file(
                {key: value.detach().contiguous() for key, value in state.items()}, folder / f"{name}.safetensors"
            )
        write_manifest(folder, record)


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """`manifest.json` beside the folder's files: the record and each file's sha256."""
    files = {file.relative_to(folder).as_posix(): sha256_of(file) for file in files_under(folder)}
    files.pop("manifest.json", None)
    (folder / "manifest.json").write_text(json.dumps({**record, "files": files}, indent=1) + "\n", encoding="utf-8")


def check_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all there and unchanged; raises `CheckpointError`."""
    path = folder / "manifest.json"
    if not path.exists():
        raise CheckpointError(f"{folder} has no manifest.json: it is no checkpoint")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        if not (folder / name).exists():
            raise CheckpointError(f"{folder}: {name} is missing")
        if sha256_of(folder / name) != digest:
            raise CheckpointError(f"{folder}: {name} is not the file its manifest describes")
    return manifest


def model_files(folder: Path) -> dict[str, Path]:
    """Those files of a model's folder, its folders' too, that make it the model it is, by their names in it."""
    names = {file.relative_to(folder): file for file in files_under(folder)}
    return {
        name.as_posix(): file
        for name, file in names.items()
        if any(map(name.match, MODEL_FILES))
        and name.name != "manifest.json"
        and not any(part.startswith(".") for part in name.parts)
    }


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Tensors and record of `write_checkpoint`, checked against the manifest."""
    manifest = check_manifest(path)
    return {file.stem: load_file(file) for file in path.glob("*.safetensors")}, manifest


class SavingTime:
    """Whether a state is worth saving: while saving has taken no more than a tenth of the time."""

    def __init__(self) -> None:
        self._started, self._saving = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        return self._saving <= SAVING_SHARE * (time.monotonic() - self._started)

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Around each saving."""
        before = time.monotonic()
        yield
        self._saving += time.monotonic() - before


def save_state(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], record: Mapping[str, Any]) -> None:
    """The state after `step` as `step-000012/`; older ones go once it stands, and first what a kill left of one."""
    for left in folder.glob(".step-*"):
        shutil.rmtree(left)
    write_checkpoint(folder / f"step-{step:06d}", tensors, {**record, "step": step})
    for old in _states(folder)[:-1]:
        shutil.rmtree(old)


def load_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """The newest whole state, or None where there is none."""
    states = _states(folder)
    return read_checkpoint(states[-1]) if states else None


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.exists() else []


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as flat tensors, `{parameter number}.{name}`."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimiser_tensors`; learning rates stay those of the configuration."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def copy_parameters(targets: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Fills parameters in place; raises `CheckpointError` unless the names are the same."""
    if odd := _difference(targets, tensors):
        raise CheckpointError(f"the state does not fit the model: {', '.join(sorted(odd)[:3])}")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def _difference(first: Iterable[str], second: Iterable[str]) -> set[str]:
    return set(first) ^ set(second)


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
