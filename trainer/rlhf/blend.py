"""Which readings of the trunk make up a score, and with what shares: ensemble selection (Caruana et al., ICML 2004).

Every setting of the probe (pooling, layer, ridge) has predicted every training pair from the other folds. From nothing
on, the setting whose addition makes the sum likeliest out of fold is added, again and again and maybe the same one
twice, while the sum's one temperature is fitted along:

    D = s * sum_m n_m D_m,   s = argmin_s NLL(s * sum_m n_m D_m)

Since probes are linear, the sum is one linear head on several readings. Against the best single setting it is right on
two to four points more of held-out pairs on two of four sets (docs/log.md), for no fit that was not made already.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from trainer.rlhf.pairs import Pairs

LEAST_GAIN = 5e-4  # nats a pair; less is noise
MOST_PICKS = 8
# Root mean square of s D. Data that one line separates would ask for an infinite one; settings that predict the wrong
# way, as where there is no preference, for none: a head of zeros.
SMALLEST_MARGIN, LARGEST_MARGIN = 0.01, 20.0


class Share(NamedTuple):
    """Number of a setting in the order given, and the factor its scores enter the sum with."""

    setting: int
    factor: float


def select_blend(deltas: Float[Tensor, "setting pair"], pairs: Pairs, *, most: int) -> list[Share]:
    """The settings that are worth their place, at most `most` different ones, in the order they came in."""
    total = torch.zeros_like(deltas[0])
    picked: list[int] = []
    best, scale = float("inf"), 1.0
    while len(picked) < MOST_PICKS:
        allowed = torch.tensor(sorted(set(picked)) if len(set(picked)) == most else range(len(deltas)))
        scales, nlls = scaled_nll(total + deltas[allowed], pairs)
        place = int(nlls.argmin())
        if float(nlls[place]) > best - LEAST_GAIN:
            break
        best, scale = float(nlls[place]), float(scales[place])
        picked.append(int(allowed[place]))
        total = total + deltas[picked[-1]]
    return [Share(setting, scale * picked.count(setting)) for setting in dict.fromkeys(picked)]


def scaled_nll(
    deltas: Float[Tensor, "setting pair"], pairs: Pairs
) -> tuple[Float[Tensor, " setting"], Float[Tensor, " setting"]]:
    """For each row the factor that makes it likeliest, by Newton's method, and the mean NLL (nats a pair) with it."""
    share = pairs.weight / pairs.weight.sum()
    unit = deltas.square().mean(1, keepdim=True).sqrt().clamp(min=1e-9)
    scale = 1 / unit
    for _ in range(40):
        chance = (scale * deltas).sigmoid()
        slope = (share * (chance - pairs.target) * deltas).sum(1, keepdim=True)
        curvature = (share * chance * (1 - chance) * deltas.square()).sum(1, keepdim=True)
        step = slope / curvature.clamp(min=1e-30)
        scale = torch.maximum(torch.minimum(scale - step, 2 * scale), scale / 2)
        scale = torch.minimum(torch.maximum(scale, SMALLEST_MARGIN / unit), LARGEST_MARGIN / unit)
    margin = scale * deltas
    return scale[:, 0], (share * (softplus(-margin) + (1 - pairs.target) * margin)).sum(1)
