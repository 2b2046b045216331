"""What each stage can be told: one frozen dataclass a stage, read from the run folder's `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RewardConfig:
    """How the reward model learns from rankings. The defaults are the recipe measured for hundreds of rankings."""

    train: Literal["auto", "probe", "lora", "full"] = "auto"  # auto: the probe below `auto_lora_rankings`
    auto_lora_rankings: int = 4000  # from this many training rankings on, `auto` tries LoRA after the probe
    pooling: Literal["auto", "last", "mean"] = "auto"  # auto: cross-validation over prompts decides
    layer: int | None = None  # index into hidden_states; None: cross-validation decides
    l2: float | None = None  # ridge of the probe on standardised features; None: cross-validation decides
    folds: int = 5
    held_out_share: float = 0.2  # of prompts, when the rankings carry no split
    has_judge: bool = True  # a second reward model on a disjoint half of the prompts
    ensemble: int = 5  # out-of-fold models that vote on preference strength; 0: none

    loss: Literal["pairwise", "plackett_luce"] = "pairwise"
    ties: Literal["drop", "half", "rao_kupper", "davidson"] = "half"
    tie_parameter: float = 0.5  # Rao-Kupper: log theta; Davidson: log nu
    margin: Literal["none", "strength", "votes"] = "none"
    label_smoothing: float = 0.0
    doubtful: Literal["keep", "soft", "flip", "drop"] = "keep"  # pairs the ensemble votes against
    centring: float = 0.0  # weight of (r_w + r_l)^2; 0.01 in the literature
    simcse: float = 0.0  # weight of the InfoNCE term of two dropout views
    metarm: float = 0.0  # ascent step on the spread of fresh policy samples

    epochs: int = 1
    learning_rate: float = 1e-4
    rankings_per_step: int = 8
    is_packed: bool = True  # the K completions of a prompt share its forward
