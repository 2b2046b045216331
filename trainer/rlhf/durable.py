"""Files that are either wholly there or not: written under a temporary name, fsynced, renamed; hashes beside them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

MANIFEST = "manifest.json"


class DamagedProduct(ValueError):
    """A stored folder whose files are not those its manifest names."""


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces `path` in one step; a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replaces `path` with `value` as indented JSON; NaN and infinities are refused."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replaces `path` with a safetensors file."""
    write_bytes(path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))


def seal_folder(folder: Path, final: Path, facts: Mapping[str, Any]) -> None:
    """Turns a finished working folder into the product `final`: manifest with the sha256 of each file, then rename."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    write_json(folder / MANIFEST, {**facts, "sha256": hashes})
    if final.exists():
        shutil.rmtree(final)
    folder.replace(final)
    _sync_folder(final.parent)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a sealed folder, after every hash in it was checked; raises `DamagedProduct`."""
    path = folder / MANIFEST
    if not path.is_file():
        raise DamagedProduct(f"{folder.name} has no {MANIFEST}: it is not a finished product")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name, expected in manifest["sha256"].items():
        if not (folder / name).is_file() or file_hash(folder / name) != expected:
            raise DamagedProduct(f"{folder.name}/{name} is missing or not the file that was saved")
    return manifest


def file_hash(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
