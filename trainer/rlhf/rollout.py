"""Sampling from the policy, many completions at a time.

Left-padded prompts; each distinct prompt is computed once and its cache handed to all its samples. Rows that have
finished are dropped once they are 15 % of a batch; until then they are decoded on unread, since each drop copies the
cache. A row's noise is a function of (its seed, the position), so that the same seed writes the same completion in any
batch (to rounding), and no generator state exists.

Left out: beam search, repetition penalties and top-k. PPO samples at top-p 1, since a cut distribution is not the one
whose log-probs are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from trainer.rlhf.data import Messages
from trainer.rlhf.encoding import encode_prompt
from trainer.rlhf.exact import exact, exact_device
from trainer.rlhf.folder import StageError
from trainer.rlhf.packing import additive
from trainer.rlhf.policy import Policy

_MASK = (1 << 64) - 1


class SamplingSettings(NamedTuple):
    """Temperature 0 takes the likeliest token; top-p 1 cuts nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 40


class Sample(NamedTuple):
    """One completion. `token_ids` include the stop token; `logprobs` are theirs at the sampling temperature, uncut."""

    text: str
    token_ids: list[int]
    finish_reason: str  # stop | length
    logprobs: list[float]


def sample(
    policy: Policy,
    prompts: Sequence[Messages],
    *,
    settings: SamplingSettings,
    seeds: Sequence[int],
    max_prompt_tokens: int,
) -> list[Sample]:
    """One completion for each prompt and its seed, from the active adapter; equal neighbours share their prompt."""
    encoded = [encode_prompt(policy.tokenizer, messages, max_tokens=max_prompt_tokens) for messages in prompts]
    return sample_ids(policy, encoded, settings=settings, seeds=seeds)


@torch.inference_mode()
def sample_ids(
    policy: Policy,
    prompts: Sequence[list[int]],
    *,
    settings: SamplingSettings,
    seeds: Sequence[int],
    rows_at_once: int = 64,
) -> list[Sample]:
    """As `sample`, for prompts that are token ids; prompts of like length are decoded together."""
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds")
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), prompts[row]))
    results: list[Sample | None] = [None] * len(prompts)
    with policy.merged():
        for start in range(0, len(order), rows_at_once):
            rows = order[start : start + rows_at_once]
            batch = _decode(policy, [prompts[row] for row in rows], settings, [seeds[row] for row in rows])
            for row, completion in zip(rows, batch, strict=True):
                results[row] = completion
    return results


def _decode(policy: Policy, prompts: list[list[int]], settings: SamplingSettings, seeds: list[int]) -> list[Sample]:
    """Decodes one batch: prefill of the distinct prompts, then a token a step for the rows still open."""
    model, device = policy.model, policy.device
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    owner = torch.tensor([distinct.index(tuple(prompt)) for prompt in prompts], device=device)
    width = max(map(len, distinct))
    cache = Cache(layers=[_Slots(width + settings.max_new_tokens) for _ in range(model.config.num_hidden_layers)])
    ids, is_real = _left_padded(distinct, policy.pad_id, device)
    lengths = is_real.sum(1)
    hidden_mask = additive(_prefill_mask(is_real), model.dtype)
    positions = (is_real.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, position_ids=positions, attention_mask=hidden_mask, past_key_values=cache, logits_to_keep=1
    ).logits[:, -1]
    logits = logits[owner]
    _select(cache, owner)

    key_mask = torch.ones(len(prompts), width + settings.max_new_tokens, dtype=torch.bool, device=device)
    key_mask[:, :width] = is_real[owner]
    key_mask = additive(key_mask[:, None, None, :], model.dtype)
    lengths = lengths[owner]
    stops = torch.tensor(sorted(policy.stop_ids), device=device)
    written: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))  # the prompt that each row of the batch, open or not, belongs to
    is_open = torch.ones(len(prompts), dtype=torch.bool, device=device)
    for step in range(settings.max_new_tokens):
        noise = torch.tensor([uniform(seeds[row], step) for row in rows], dtype=torch.float64)
        tokens, chosen = choose(logits, noise.to(exact_device(device)), settings)
        for row, is_live, token, logprob in zip(rows, is_open.tolist(), tokens.tolist(), chosen.tolist(), strict=True):
            if is_live:
                written[row].append(token)
                logprobs[row].append(logprob)
        is_open &= ~torch.isin(tokens, stops)
        open_rows = int(is_open.sum())
        if open_rows == 0 or step + 1 == settings.max_new_tokens:
            break
        if open_rows <= 0.85 * len(rows):  # copying the cache costs about as much as decoding a few rows once
            keep = is_open.nonzero()[:, 0]
            _select(cache, keep)
            tokens, lengths, key_mask, is_open = tokens[keep], lengths[keep], key_mask[keep], is_open[keep]
            rows = [rows[place] for place in keep.tolist()]
        logits = model(
            input_ids=tokens[:, None],
            position_ids=(lengths + step)[:, None],
            attention_mask=key_mask[..., : width + step + 1],
            past_key_values=cache,
        ).logits[:, -1]
    return [
        _finished(policy, token_ids, row_logprobs) for token_ids, row_logprobs in zip(written, logprobs, strict=True)
    ]


def choose(
    logits: Float[Tensor, "batch vocab"], noise: Float[Tensor, " batch"], settings: SamplingSettings
) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The token whose interval of the cumulative distribution holds the noise; its log-prob before any top-p cut.

    Raises `StageError` where the logits are no numbers.
    """
    if settings.temperature == 0:
        logprobs = logits.float().log_softmax(-1)
        tokens = logprobs.argmax(-1)
        return tokens, logprobs.gather(1, tokens[:, None])[:, 0]
    probs = (logits.float() / settings.temperature).softmax(-1)
    allowed = _nucleus(probs, settings.top_p) if settings.top_p < 1 else probs
    cumulative = allowed.cumsum(-1)
    total = cumulative[:, -1:]
    if not total.isfinite().all():
        raise StageError("the policy's logits are not finite: lower the learning rate, or set dtype to float32")
    height = (noise[:, None] * exact(total)).float().to(total.device)
    height = torch.minimum(height, torch.nextafter(total, torch.zeros_like(total)))  # rounding may not pass the end
    tokens = torch.searchsorted(cumulative, height, right=True)
    return tokens[:, 0], probs.gather(1, tokens)[:, 0].log()


def _nucleus(probs: Float[Tensor, "batch vocab"], top_p: float) -> Float[Tensor, "batch vocab"]:
    """Zero but for the fewest likeliest tokens that together hold at least `top_p`."""
    ordered, index = probs.sort(dim=-1, descending=True)
    is_out = ordered.cumsum(-1) - ordered >= top_p
    return probs.masked_fill(is_out.scatter(1, index, is_out), 0.0)


def uniform(seed: int, counter: int) -> float:
    """A number in [0, 1) from (seed, counter): splitmix64's finaliser, 53 bits."""
    state = (seed * 0x9E3779B97F4A7C15 + (counter + 1) * 0xD1B54A32D192ED03) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((state ^ (state >> 31)) >> 11) * 2.0**-53


def derived_seed(*numbers: int) -> int:
    """One 53-bit seed from several numbers, such as (run seed, update, row)."""
    state = 0
    for number in numbers:
        state = int(uniform(state ^ (number & _MASK), number & 0xFFFF) * 2**53)
    return state


class _Slots(DynamicLayer):
    """Keys and values of one layer in a buffer allocated once."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity, self.length = capacity, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, size = key_states.shape
        self.keys = key_states.new_empty(batch, heads, self.capacity, size)
        self.values = value_states.new_empty(batch, heads, self.capacity, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_args, **_kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length


def _select(cache: Cache, rows: Int[Tensor, " row"]) -> None:
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[rows], layer.values[rows]


def _left_padded(prompts: list[tuple[int, ...]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return ids, torch.arange(width, device=device) >= (width - lengths)[:, None]


def _prefill_mask(is_real: Tensor) -> Tensor:
    width = is_real.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=is_real.device).tril()
    own = torch.eye(width, dtype=torch.bool, device=is_real.device)  # padding sees itself: no empty softmax
    return ((causal & is_real[:, None, :]) | own)[:, None]


def _finished(policy: Policy, token_ids: list[int], logprobs: list[float]) -> Sample:
    is_stopped = token_ids[-1] in policy.stop_ids
    text = policy.tokenizer.decode(token_ids[:-1] if is_stopped else token_ids, skip_special_tokens=True)
    text = text.replace("\x00", "")  # byte-level models can write NUL, which no database's text can hold
    return Sample(text, token_ids, "stop" if is_stopped else "length", logprobs)
