"""The default base that the benchmarks share, and the arithmetic that both sides of one use."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_base_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=Path, default=Path("var/bench/base"), help="a model folder; made if missing")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"), help="of both sides")


def prepare_base(options: argparse.Namespace) -> None:
    """Makes the model folder if it is missing, and settles a dtype of `auto` by what the processor does well."""
    ensure_base(options.base)
    if options.dtype == "auto":
        from trainer.rlhf.policy import best_device, pick_dtype

        options.dtype = str(pick_dtype("auto", best_device())).removeprefix("torch.")


def ensure_base(folder: Path) -> None:
    if not folder.exists():
        from launch.base_model import prepare_base_model

        folder.parent.mkdir(parents=True, exist_ok=True)
        prepare_base_model(folder)
