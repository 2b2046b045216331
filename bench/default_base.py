"""The default base that the benchmarks share, and the device and arithmetic that both sides of one use."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DEFAULT_BASE = Path("var/bench/base")


def add_base_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help="a model folder; default: the default model's")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"), help="of both sides; default: cpu")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of both sides")


def prepare_base(options: argparse.Namespace) -> None:
    """Makes the model folder if it is missing, and settles a dtype of `auto` by what the device does well."""
    use_device(options.device)
    ensure_base(options.base)
    if options.dtype == "auto":
        import torch

        from trainer.rlhf.policy import pick_dtype

        options.dtype = str(pick_dtype("auto", torch.device(options.device))).removeprefix("torch.")


def use_device(device: str) -> None:
    """Makes `device` the only one that libraries find in this process and its children by fork.

    A trainer takes the best device there is: beside a peer on the processor it must not find an accelerator, and of
    several GPUs it gets the first alone, as transformers would spread each batch over all of them.
    Raises `SystemExit` where there is no such device.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = first if device == "cuda" else ""
    import torch

    if device != "mps":
        torch.backends.mps.is_available = lambda: False
    if not {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}[device]():
        raise SystemExit(f"--device {device}: PyTorch finds no such device here")


def ensure_base(folder: Path) -> None:
    """Makes the default model's folder where it is missing; raises `SystemExit` for another that is not there."""
    if not folder.exists():
        if folder != DEFAULT_BASE:
            raise SystemExit(f"--base {folder}: there is no such folder")
        from launch.base_model import prepare_base_model

        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare_base_model(folder)
