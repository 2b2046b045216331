"""A causal language model with named LoRA adapters on one copy of its weights.

`load_policy` reads a base model and, if told, a checkpoint on top. Policy, reference, incumbent and an adapter critic
share the base: `use_adapter("policy")`, `use_adapter(None)` for the base itself. `merged` folds the active adapter into
the weights for as long as many forwards follow (sampling) and puts the very same tensors back afterwards.

Adapters on disk are PEFT folders, so that any other tool reads them. Left out: adapters other than LoRA on linear
layers, several active at once, quantised bases.
"""

from __future__ import annotations

import filecmp
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import peft
import torch
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from trainer.rlhf import attention
from trainer.rlhf.checkpoint import CheckpointError, check_manifest, model_files, write_manifest
from trainer.rlhf.config import LoraConfig, RunConfig
from trainer.rlhf.encoding import load_tokenizer, turn_end_id
from trainer.rlhf.folder import StageError, new_folder
from trainer.rlhf.trunk import is_encoder, is_encoder_config

PREFIX = "base_model.model."  # PEFT writes every name as seen from its own wrapper


ADDS_ITS_MASK = ("codegen", "gptj")  # attention of their own, whose whole mask is the one they are given to add


class UnsupportedModel(StageError):
    """The model changes its logits, which the chunked log-probs would miss, cannot take our masks, or cannot write."""


class Policy(NamedTuple):
    """A model that writes, its tokenizer, and the token ids that end a completion.

    Where the loader was told that it may be, the model is an encoder: it is trained and read like another, and writes
    nothing.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id

    @property
    def head(self) -> nn.Linear:
        return self.model.get_output_embeddings()

    @property
    def is_tied(self) -> bool:
        """Whether the head's weights are the embeddings' own."""
        return self.head.weight is self.model.get_input_embeddings().weight

    def add_adapter(self, name: str, path: Path | str) -> None:
        """Reads a PEFT folder beside the adapters that are there, without making it the active one.

        Raises `CheckpointError` for an adapter that is not plain LoRA or does not fit. What rsLoRA scales by
        alpha / sqrt(r) is kept with an alpha that gives as much over r.
        """
        path = Path(path)
        if (path / "manifest.json").exists():
            check_manifest(path)
        config = peft.PeftConfig.from_pretrained(path)
        _refuse_what_is_not_plain_lora(path, config)
        tensors = load_file(path / "adapter_model.safetensors")
        modules = _module_names(tensors)
        if any(module is self.head and own in modules for own, module in self.model.named_modules()):
            raise CheckpointError(f"the adapter in {path} changes the output layer, which this program does not apply")
        alpha = config.lora_alpha * math.sqrt(config.r) if config.use_rslora else config.lora_alpha  # 2312.03732
        try:
            self._inject(name, config.r, alpha, config.lora_dropout, modules)
            slots = self.adapter_parameters(name)
            if slots.keys() != tensors.keys():
                odd = ", ".join(sorted(slots.keys() ^ tensors.keys())[:3])
                raise CheckpointError(f"the adapter in {path} does not fit this base: {odd}")
            with torch.no_grad():
                for key, slot in slots.items():
                    slot.copy_(tensors[key])
        except BaseException:  # or the name would stand for factors that nobody trained
            self.remove_adapter(name)
            raise

    def new_adapter(self, name: str, lora: LoraConfig, *, seed: int) -> None:
        """A fresh adapter on every linear layer but the head; it changes nothing until it is trained (B = 0)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._inject(name, lora.r, lora.alpha, lora.dropout, self._linear_names())

    def copy_adapter(self, source: str, name: str) -> None:
        """A second adapter with the same values."""
        layer, values = self._layer_with(source), self.adapter_parameters(source)
        dropout = getattr(layer.lora_dropout[source], "p", 0.0)
        self._inject(name, layer.r[source], layer.lora_alpha[source], dropout, _module_names(values))
        slots = self.adapter_parameters(name)
        with torch.no_grad():
            for key, slot in slots.items():
                slot.copy_(values[key])

    def remove_adapter(self, name: str) -> None:
        """Forgets an adapter; if it was the active one, the base alone is active."""
        others = [other for other in self.adapters() if other != name]
        for layer in self._lora_layers():
            if name in layer.active_adapters and others:
                is_disabled = True
                layer.set_adapter(others[0])
            else:
                is_disabled = layer.disable_adapters or not others
            layer.delete_adapter(name)
            layer.enable_adapters(not is_disabled)
        self.model.peft_config.pop(name, None)

    def use_adapter(self, name: str | None) -> None:
        """Makes one adapter active and trainable, or with None the base alone, whose weights stay frozen."""
        if name is not None and name not in self.adapters():
            raise KeyError(f"no adapter is called {name!r}; there are {', '.join(self.adapters()) or 'none'}")
        for layer in self._lora_layers():
            if name is not None:
                layer.set_adapter(name)
            layer.enable_adapters(name is not None)

    @property
    def active_adapter(self) -> str | None:
        layer = next(self._lora_layers(), None)
        return None if layer is None or layer.disable_adapters else layer.active_adapters[0]

    def adapters(self) -> list[str]:
        return sorted({name for layer in self._lora_layers() for name in layer.r})

    def adapter_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """The adapter's tensors by their names in a PEFT file; another tool's may lie on some of the layers only."""
        return {
            f"{PREFIX}{path}.{part}.weight": getattr(module, part)[name].weight
            for path, module in self.model.named_modules()
            if isinstance(module, LoraLayer) and name in module.lora_A
            for part in ("lora_A", "lora_B")
        }

    def save_adapter(self, name: str, path: Path, record: dict) -> None:
        """Writes the adapter as a PEFT folder with a manifest of `record` and the files' sha256."""
        layer, tensors = self._layer_with(name), self.adapter_parameters(name)
        config = {
            "peft_type": "LORA",
            "task_type": None if is_encoder(self.model) else "CAUSAL_LM",
            "base_model_name_or_path": self.model.config.name_or_path,
            "r": layer.r[name],
            "lora_alpha": layer.lora_alpha[name],
            "lora_dropout": getattr(layer.lora_dropout[name], "p", 0.0),
            "target_modules": sorted({path.rsplit(".", 1)[-1] for path in _module_names(tensors)}),
            "fan_in_fan_out": isinstance(layer.get_base_layer(), Conv1D),
            "bias": "none",
            "inference_mode": True,
        }
        with new_folder(path) as folder:
            (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            save_file(
                {key: value.detach().contiguous() for key, value in tensors.items()},
                folder / "adapter_model.safetensors",
            )
            write_manifest(folder, record)

    def save_weights(self, path: Path, record: dict) -> None:
        """Writes the whole model and its tokenizer, with a manifest."""
        with new_folder(path) as folder:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            write_manifest(folder, record)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """W + (alpha / r) B A in place of W while inside: no adapter arithmetic in each forward."""
        kept: list[tuple[LoraLayer, Tensor]] = []
        try:
            for layer in self._lora_layers():
                active = None if layer.disable_adapters else layer.active_adapters[0]
                if active not in layer.lora_A:
                    continue
                weight = layer.get_base_layer().weight
                kept.append((layer, weight.data))
                with torch.no_grad():
                    weight.data = (weight.float() + layer.get_delta_weight(active).float()).to(weight.dtype)
                layer.enable_adapters(False)
            yield
        finally:
            for layer, original in kept:
                layer.get_base_layer().weight.data = original
                layer.enable_adapters(True)

    def _inject(self, name: str, r: int, alpha: float, dropout: float, modules: list[str]) -> None:
        is_transposed = any(isinstance(self.model.get_submodule(path), Conv1D) for path in modules)
        config = peft.LoraConfig(
            r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=modules, fan_in_fan_out=is_transposed
        )
        active = self.active_adapter
        with warnings.catch_warnings():  # peft warns of a second adapter, which is what is wanted
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            peft.inject_adapter_in_model(config, self.model, adapter_name=name)
        self.model.eval()
        for layer in self._lora_layers():
            _multiply_in_the_models_dtype(layer, name)
        self.use_adapter(active)  # of layers that had no adapter too

    def _lora_layers(self) -> Iterator[LoraLayer]:
        return (module for module in self.model.modules() if isinstance(module, LoraLayer))

    def _layer_with(self, name: str) -> LoraLayer:
        return next(layer for layer in self._lora_layers() if name in layer.lora_A)

    def _linear_names(self) -> list[str]:
        """Every linear layer but the head, whether adapters lie on it or not; not their own factors."""
        inner = {id(part) for layer in self._lora_layers() for part in layer.modules() if part is not layer}
        return [
            path
            for path, module in self.model.named_modules()
            if isinstance(module, nn.Linear | Conv1D | LoraLayer)
            and module is not self.head
            and id(module) not in inner
        ]


class _Factor(nn.Linear):
    """Half of an adapter: kept in fp32 for the optimiser, multiplied in the dtype of what flows through it."""

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states, self.weight.to(states.dtype))


def _multiply_in_the_models_dtype(layer: LoraLayer, name: str) -> None:
    """Spares the casts of all activations to fp32 and back that peft makes: a third of a linear layer in bf16."""
    layer.cast_input_dtype_enabled = False
    for factors in (layer.lora_A, layer.lora_B):
        if name in factors:
            weight = factors[name].weight
            factors[name] = _Factor(weight.shape[1], weight.shape[0], bias=False, device="meta")
            factors[name].weight = weight


# What changes what an adapter computes, or the base below it, beyond (alpha / r) B A; `loftq_config` and others that
# only say how it was begun change nothing once `init_lora_weights` has.
_BEYOND_PLAIN = (
    "alpha_pattern",
    "rank_pattern",
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
)
_KEEPS_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")  # other starts take the adapter out of its weights


def _refuse_what_is_not_plain_lora(path: Path, config: peft.PeftConfig) -> None:
    kind = peft.PeftType(config.peft_type).value
    if kind != "LORA":
        raise CheckpointError(f"the adapter in {path} is of type {kind}: only LoRA can be read")
    odd = [f"{name} {value!r}" for name in _BEYOND_PLAIN if (value := getattr(config, name, None))]
    odd += [f"bias {config.bias!r}"] * (config.bias != "none")
    odd += [f"init_lora_weights {config.init_lora_weights!r}"] * (config.init_lora_weights not in _KEEPS_THE_BASE)
    if odd:
        raise CheckpointError(f"the adapter in {path} has {', '.join(odd)}, which this program does not apply")


def _config_of(path: Path | str, **options: bool) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        # Where there is no such folder, transformers says what is wrong with it as the name of a model on the hub.
        why = "there is no such folder" if is_folder_gone(path) else str(error).splitlines()[0]
        raise StageError(f"there is no model in {path}: {why}") from error


def load_policy(
    base_path: Path | str,
    *,
    adapter: Path | str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str | torch.device | None = None,
    can_be_encoder: bool = False,
) -> Policy:
    """The base model, frozen, with `adapter` (a checkpoint folder) as its active adapter `policy` if one is given.

    A checkpoint of full weights takes the base's place; tokenizer and template always come from the base.
    Raises `UnsupportedModel` for a model whose logits are changed or whose attention cannot take the masks of packed
    rows, and for an encoder where a writer is needed, `StageError` where there is no model.
    """
    device = torch.device(device) if device else best_device()
    is_full = adapter is not None and not is_adapter(adapter)
    if is_full:
        check_manifest(Path(adapter))
    path, options = adapter if is_full else base_path, {"trust_remote_code": trust_remote_code}
    config = _config_of(path, **options)
    if is_encoder_config(config) and not can_be_encoder:
        raise UnsupportedModel(f"{path} is a masked language model, which cannot write; `reward.backbone` may name it")
    kind = AutoModelForMaskedLM if is_encoder_config(config) else AutoModelForCausalLM
    try:
        model = kind.from_pretrained(path, dtype=pick_dtype(dtype, device), **options)
    except SafetensorError as error:
        raise StageError(f"the weights in {path} cannot be read: {error}") from error
    _refuse_other_attention(model)
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(attention.NAME)
    _refuse_changed_logits(model)
    model = model.to(device).eval().requires_grad_(False)
    tokenizer = load_tokenizer(base_path, trust_remote_code=trust_remote_code)
    policy = Policy(model, tokenizer, stop_ids(model, tokenizer))
    if adapter is not None and not is_full:
        policy.add_adapter("policy", adapter)
        policy.use_adapter("policy")
    return policy


def is_adapter(checkpoint: Path | str) -> bool:
    """Whether a checkpoint's folder holds an adapter, and not a whole model."""
    return (Path(checkpoint) / "adapter_config.json").exists()


def is_whole_model(checkpoint: Path | str) -> bool:
    """Whether a checkpoint's folder holds a model with its weights: a run folder, say, has a config.json alone."""
    folder = Path(checkpoint)
    return (folder / "config.json").exists() and any([*folder.glob("*.safetensors"), *folder.glob("*.bin")])


def check_parent(config: RunConfig) -> None:
    """Raises `StageError` if the parent is of another base, or of another kind than is trained.

    With `lora` that is an adapter, else a model.
    """
    if config.parent is None:
        return
    if not Path(config.parent).exists():
        raise StageError(f"there is no parent checkpoint in {config.parent}")
    if not is_adapter(config.parent) and not is_whole_model(config.parent):
        raise StageError(f"the parent {config.parent} is no checkpoint: name a folder such as a run's ppo/policy")
    if config.lora is None and is_adapter(config.parent):
        raise StageError("the parent is an adapter, but lora is null: train an adapter or start from the base")
    if config.lora is not None and not is_adapter(config.parent):
        raise StageError("the parent is a whole model, but lora is set: make it the base_model, or set lora to null")
    check_base_of(Path(config.parent), config)


def check_base(path: Path, base: str | None, config: RunConfig) -> None:
    """Raises `StageError` if what lies in `path` was trained on another base than the run's; None: not known.

    Of a base whose folder is gone nothing is known either: an installation may have been moved.
    """
    if base is not None and not is_folder_gone(base) and not is_same_model(base, config.base_model):
        raise StageError(f"{path} was trained on the base {base}, and not on that of this run, {config.base_model}")


def check_base_of(checkpoint: Path, config: RunConfig) -> None:
    """`check_base` of a checkpoint, as far as it has a manifest to say what it stands on."""
    path = checkpoint / "manifest.json"
    if path.exists():
        check_base(checkpoint, json.loads(path.read_text(encoding="utf-8")).get("base"), config)


def is_folder_gone(model: Path | str) -> bool:
    """Whether this names a folder, and no model on the hub, and there is none."""
    return str(model).startswith(("/", ".", "~")) and not Path(model).exists()


def is_same_model(first: Path | str, second: Path | str) -> bool:
    """Whether two folders are one, or hold the same model byte for byte; names of a hub must be equal."""
    first, second = Path(first), Path(second)
    if first.resolve() == second.resolve():
        return True
    ours, theirs = model_files(first), model_files(second)
    if not ours or ours.keys() != theirs.keys():
        return False
    return all(filecmp.cmp(file, theirs[name], shallow=False) for name, file in ours.items())


def best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the processor multiplies it natively, else float32."""
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return torch.float32


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that ends a turn: EOS, what the template writes there, and what the model's generation settings name."""
    settings = getattr(model, "generation_config", None)
    named = settings.eos_token_id if settings else None
    ids = named if isinstance(named, list) else [named]
    return frozenset(id for id in [tokenizer.eos_token_id, turn_end_id(tokenizer), *ids] if id is not None)


def _module_names(tensors: dict[str, Tensor]) -> list[str]:
    return sorted({key.removeprefix(PREFIX).rsplit(".", 2)[0] for key in tensors})


def _refuse_other_attention(model: PreTrainedModel) -> None:
    """An encoder lays its masks itself; of decoders without SDPA some add their own, by places in the row (GPT-Neo)."""
    kind, how = model.config.model_type, model.config._attn_implementation
    if how != "sdpa" and kind not in ADDS_ITS_MASK and not is_encoder(model):
        raise UnsupportedModel(
            f"{type(model).__name__} has an attention of its own ({how}), which may not see as the masks of packed "
            f"rows say; decoders with SDPA can be trained, and of the others {', '.join(ADDS_ITS_MASK)}"
        )


def _refuse_changed_logits(model: PreTrainedModel) -> None:
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, name, None) not in (None, 1, 1.0):
            raise UnsupportedModel(f"{type(model).__name__} has {name}, which this trainer does not apply")
