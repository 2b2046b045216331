"""AdamW whose steps are not lost in bf16."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class MasterAdamW(torch.optim.AdamW):
    """AdamW (1711.05101) that sums the steps of bf16 weights in fp32 copies (1710.03740, section 3.1).

    bf16 keeps 8 bits: a step of less than a 512th of its weight is rounded away, and at the rates that suit full
    weights nearly all are. Weights in fp32 are their own copies. One group of weights, at one rate.
    """

    def __init__(self, weights: Iterable[nn.Parameter], **options: Any):
        weights = list(weights)
        masters = [
            weight if weight.dtype == torch.float32 else nn.Parameter(weight.detach().float()) for weight in weights
        ]
        super().__init__(masters, **options)
        pairs = enumerate(zip(masters, weights, strict=True))
        self.rounded = {number: (master, weight) for number, (master, weight) in pairs if master is not weight}

    @property
    def masters(self) -> list[nn.Parameter]:
        """What is summed, in the order of the weights: an fp32 copy of each, or itself."""
        return self.param_groups[0]["params"]

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for _master, weight in self.rounded.values():
            weight.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for master, weight in self.rounded.values():
            master.grad = None if weight.grad is None else weight.grad.float()
        super().step()
        for master, weight in self.rounded.values():
            weight.copy_(master)

    def state_dict(self) -> dict[str, Any]:
        """AdamW's, and with it the copies: the weights themselves do not tell what has been summed so far."""
        whole = super().state_dict()
        state = whole["state"]
        copies = {
            number: {**state.get(number, {}), "master": master.detach()}
            for number, (master, _weight) in self.rounded.items()
        }
        return {**whole, "state": {**state, **copies}}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for master, _weight in self.rounded.values():
            master.copy_(self.state[master].pop("master"))
