"""The frozen trunk as a feature extractor: hidden states of chosen layers, no logits, no layer deeper than needed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from trainer.rlhf import attention
from trainer.rlhf.context import check_length
from trainer.rlhf.packing import Group, PackedBatch, additive, batches, pack, pool, unpacked


class _Deep(Exception):
    """Raised by a hook when the deepest layer asked for has been computed; never leaves this module."""


def trunk_of(model: nn.Module) -> PreTrainedModel:
    """The model without its language-model head, adapters or not."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(causal, causal.base_model_prefix, causal)


def is_encoder(model: nn.Module) -> bool:
    """Whether it is a masked language model: every token sees those on both sides of it, and nothing can be sampled."""
    return is_encoder_config(trunk_of(model).config)


def is_encoder_config(config: PreTrainedConfig) -> bool:
    names = config.architectures or ()
    if any(name.endswith(("MaskedLM", "CausalLM", "LMHeadModel")) for name in names):
        return any(name.endswith("MaskedLM") for name in names)
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)


def depth(model: nn.Module) -> int:
    """Number of blocks L; hidden states are numbered 0 (embeddings) to L (output, after the last norm)."""
    return trunk_of(model).config.num_hidden_layers


def hidden_states(
    model: nn.Module, layers: Sequence[int], **inputs: Tensor
) -> dict[int, Float[Tensor, "batch time hidden"]]:
    """Hidden states at `layers`, as `output_hidden_states` numbers them, stopping after the deepest.

    Only the layers asked for are kept, so that memory does not grow with depth.
    """
    trunk = trunk_of(model)
    blocks = _blocks(trunk)
    found: dict[int, Tensor] = {}
    deepest = max(layers)

    def keep_input(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        found[0] = args[0] if args else kwargs["hidden_states"]
        if deepest == 0:
            raise _Deep

    def keep_output(layer: int):
        def hook(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> None:
            found[layer] = output[0] if isinstance(output, tuple) else output
            if layer == deepest:
                raise _Deep

        return hook

    hooks = [blocks[layer - 1].register_forward_hook(keep_output(layer)) for layer in layers if 0 < layer < len(blocks)]
    if 0 in layers:
        hooks.append(blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True))
    try:
        found[len(blocks)] = trunk(**inputs, use_cache=False).last_hidden_state
    except _Deep:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: found[layer] for layer in layers}


def _blocks(trunk: nn.Module) -> nn.ModuleList:
    for module in trunk.modules():
        if isinstance(module, nn.ModuleList) and len(module) == trunk.config.num_hidden_layers:
            return module
    raise ValueError(f"{type(trunk).__name__} has no list of {trunk.config.num_hidden_layers} blocks")


def rows_for(model: nn.Module, groups: Sequence[Group], *, is_packed: bool = True) -> list[Group]:
    """Groups as the rows of a batch: packed, or, where an encoder's prompt would see all completions, one a row."""
    if is_packed and not is_encoder(model):
        return list(groups)
    return [row for group in groups for row in unpacked(group)]


def check_completion(model: nn.Module, tokens: int, what: str = "a prompt with its completion") -> None:
    """Raises `StageError` if so many tokens, a prompt's and a completion's, are more than the model reads."""
    check_length(trunk_of(model), tokens, what, is_masked_by_us=not is_encoder(model))


def packed_inputs(batch: PackedBatch, model: nn.Module) -> dict[str, Tensor]:
    """The forward arguments of a packed batch, on the model's device; an encoder counts its positions itself.

    Raises `StageError` where a completion ends past the model's context.
    SDPA takes the mask as it is; an attention of a model's own adds it, where True would add 1 and hide nothing.
    """
    device, trunk = next(model.parameters()).device, trunk_of(model)
    check_completion(model, int(batch.position_ids.max()) + 1)
    if is_encoder(model):
        is_real = batch.attention_mask[:, 0, :, 0]  # all real tokens of a row see its first one
        return {"input_ids": batch.input_ids.to(device), "attention_mask": is_real.long().to(device)}
    mask = batch.attention_mask.to(device)
    if trunk.config._attn_implementation not in ("sdpa", attention.NAME):
        mask = additive(mask, trunk.dtype)
    return {
        "input_ids": batch.input_ids.to(device),
        "position_ids": batch.position_ids.to(device),
        "attention_mask": mask,
    }


@torch.no_grad()
def pooled_features(
    model: nn.Module,
    groups: Sequence[Group],
    *,
    readings: Collection[tuple[str, int]],
    pad_id: int,
    max_tokens: int,
    is_packed: bool = True,
) -> dict[tuple[str, int], Float[Tensor, "completion hidden"]]:
    """Pooled hidden states of every completion, in the order of the groups, for each (pooling, layer); fp32, CPU."""
    rows = rows_for(model, groups, is_packed=is_packed)
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + len(row.completions))
    size = trunk_of(model).config.hidden_size
    features = {reading: torch.empty(starts[-1], size) for reading in readings}
    layers = sorted({layer for _, layer in readings})
    for indices in batches(rows, max_tokens=max_tokens):
        batch = pack([rows[index] for index in indices], pad_id=pad_id)
        places = torch.cat([torch.arange(starts[index], starts[index + 1]) for index in indices])
        states = hidden_states(model, layers, **packed_inputs(batch, model))
        for pooling, layer in features:
            features[pooling, layer][places] = pool(
                states[layer], batch.owner.to(states[layer].device), batch.count, pooling
            ).cpu()
    return features
