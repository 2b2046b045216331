"""Rankings drawn from a known Bradley-Terry or Plackett-Luce model, with the features that explain them."""

from __future__ import annotations

import numpy as np
import torch

from trainer.rlhf.data import Completion, Ranking


def rankings_of(scores: np.ndarray, rng: np.random.Generator, *, noise: float = 1.0) -> list[Ranking]:
    """Plackett-Luce rankings (Gumbel noise) of groups of completions with the given scores."""
    found = []
    for number, group in enumerate(scores):
        keys = group + noise * rng.gumbel(size=len(group))
        ranks = tuple(int(rank) + 1 for rank in (-keys).argsort().argsort())
        completions = tuple(Completion(str(place), f"text {place}") for place in range(len(group)))
        found.append(
            Ranking(str(number), f"p{number}", [{"role": "user", "content": f"{number}?"}], completions, ranks)
        )
    return found


def planted(prompts: int, *, k: int = 4, size: int = 8, seed: int = 0, noise: float = 1.0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(prompts, k, size))
    weight = np.zeros(size)
    weight[:2] = 1.5, -1.0
    return torch.tensor(features.reshape(-1, size)).float(), rankings_of(features @ weight, rng, noise=noise), weight
