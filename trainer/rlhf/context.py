"""How many tokens a model reads as it was made to, and the refusal of more.

Past its last position a model fails with an error of its tensors or, with rotary positions, goes on in silence where it
was never trained. A sliding window ends earlier: packing and sampling lay masks of their own over a row, by which every
layer sees all of it, as it does of what is no longer than the window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from transformers import PreTrainedModel

from trainer.rlhf.folder import StageError

LIMITS = "max_prompt_tokens or max_completion_tokens"


class Context(NamedTuple):
    """The tokens of the longest sequence, and the key of the model's configuration that says so."""

    tokens: int
    key: str


def context_of(trunk: PreTrainedModel, *, is_masked_by_us: bool) -> Context | None:
    """None where the model knows no limit; a window is one only under masks of ours."""
    config, found = trunk.config, []
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        table = getattr(getattr(trunk, "embeddings", None), "position_embeddings", None)
        first = getattr(table, "padding_idx", None)  # after which RoBERTa counts
        found.append(Context(positions if first is None else positions - first - 1, "max_position_embeddings"))
    if is_masked_by_us and (window := getattr(config, "sliding_window", None)):
        kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
        if "sliding_attention" in kinds and getattr(config, "use_sliding_window", True):
            found.append(Context(window, "sliding_window"))
    return min(found, default=None)


def check_length(trunk: PreTrainedModel, tokens: int, what: str, *, keys: str = LIMITS, is_masked_by_us: bool) -> None:
    """Raises `StageError` if so many tokens are more than the model reads; `keys` are to be lowered then."""
    context = context_of(trunk, is_masked_by_us=is_masked_by_us)
    if context is not None and tokens > context.tokens:
        raise StageError(
            f"{trunk.config.name_or_path} reads {context.tokens} tokens at most ({context.key}), "
            f"and {what} may have {tokens}: lower {keys}"
        )


def check_examples(trunk: PreTrainedModel, lengths: Iterable[int], *, keys: str) -> None:
    """As `check_length`, for what is read alone under the model's own mask."""
    check_length(trunk, max(lengths), "an example", keys=keys, is_masked_by_us=False)
