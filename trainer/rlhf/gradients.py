"""The norm of a step's gradient, which no step may exceed and none may take if it is no number."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn

from trainer.rlhf.folder import StageError


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scales the gradients down to `max_norm`; returns what their norm was.

    Raises `StageError` if it is infinite or no number: a step would put that into every weight, and all that follows.
    """
    norm = float(nn.utils.clip_grad_norm_(parameters, max_norm))
    if not math.isfinite(norm):
        raise StageError("the gradient is not finite: lower the learning rate, or set dtype to float32")
    return norm
