"""The versions of what computed a checkpoint: they stand in its manifest."""

from __future__ import annotations

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    names = ("torch", "transformers", "peft", "safetensors", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
