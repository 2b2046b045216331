"""The default base that the benchmarks share, and the device and arithmetic that both sides of one use."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaConfig

DEFAULT_BASE = Path("var/bench/base")
# Larger ones for a GPU, whose weights are drawn: (hidden size, layers, MLP size, heads, key-value heads). Speed and
# memory are those of trained weights; of accuracy they say nothing.
SHAPES = {
    Path("var/bench/llama-0.5b"): (1280, 24, 3456, 20, 5),
    Path("var/bench/llama-1.5b"): (2048, 26, 7168, 32, 8),
}
BASE_HELP = f"a model folder; default: the default model's; made where missing: {', '.join(map(str, SHAPES))}"


def add_base_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help=BASE_HELP)
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
    """Makes the default model's folder, or one of SHAPES, where it is missing; raises `SystemExit` for another."""
    if folder.exists():
        return
    if folder not in (DEFAULT_BASE, *SHAPES):
        raise SystemExit(f"--base {folder}: there is no such folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder in SHAPES:
        ensure_base(DEFAULT_BASE)
        write_drawn(folder)
    else:
        from launch.base_model import prepare_base_model

        prepare_base_model(folder)


def write_drawn(folder: Path) -> None:
    """A Llama of one of SHAPES with the default model's tokenizer, its weights drawn from seed 1, in bfloat16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    config = shaped(AutoConfig.from_pretrained(DEFAULT_BASE), *SHAPES[folder])
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(DEFAULT_BASE).save_pretrained(folder)


def shaped(config: LlamaConfig, hidden: int, layers: int, mlp: int, heads: int, key_value_heads: int) -> LlamaConfig:
    """The configuration of a Llama of that shape, in all else the given one's."""
    config.update(
        {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "intermediate_size": mlp,
            "num_attention_heads": heads,
            "num_key_value_heads": key_value_heads,
            "head_dim": hidden // heads,
        }
    )
    return config
