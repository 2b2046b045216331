"""The report's plots, as SVG files that a page can show as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit

from trainer.rlhf.pairs import pairs_of
from trainer.rlhf.reward_report import Judged, oriented, reliability

SIZE_INCHES = (4.6, 3.4)
DOTS = 3000  # completions drawn one by one
INK, RIVAL = "#1f5fa8", "#9a6b1f"


def draw_plots(folder: Path, judged: Judged, report: Mapping[str, Any], *, seed: int) -> list[str]:
    """Writes reliability, layers, margins and lengths; returns their paths relative to the run folder's `reward`."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = pairs_of(judged.rankings, ties="drop")
    deltas = judged.scores[pairs.winner.numpy()] - judged.scores[pairs.loser.numpy()]
    figures = {"layers": _layers(report["candidates"])}
    if len(deltas):
        figures |= {
            "reliability": _reliability(deltas, seed),
            "margins": _margins(deltas),
            "lengths": _lengths(judged),
        }
    with matplotlib.rc_context({"svg.hashsalt": "whetstone", "svg.fonttype": "none"}):
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return [f"{folder.name}/{name}.svg" for name in figures]


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _reliability(deltas: np.ndarray, seed: int) -> Figure:
    figure, axes = _axes("Is it as sure as it should be?", "predicted chance", "share preferred")
    logits, outcome = oriented(deltas, seed=seed)
    bins = reliability(expit(logits), outcome)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--")
    axes.plot([mean for _, mean, _ in bins], [share for _, _, share in bins], "o-", color=INK)
    return figure


def _layers(candidates: list[dict[str, Any]]) -> Figure:
    figure, axes = _axes("Where in the base is the preference?", "layer", "accuracy in cross-validation")
    for pooling, color in (("mean", INK), ("last", RIVAL)):
        best: dict[int, float] = {}
        for candidate in candidates:
            if candidate["pooling"] == pooling:
                best[candidate["layer"]] = max(best.get(candidate["layer"], 0.0), candidate["accuracy"])
        if best:
            layers = sorted(best)
            axes.plot(layers, [best[layer] for layer in layers], "o-", color=color, label=f"{pooling} token pooling")
    axes.axhline(0.5, color="#888888", linewidth=1, linestyle="--")
    axes.legend(frameon=False)
    return figure


def _margins(deltas: np.ndarray) -> Figure:
    figure, axes = _axes("Score of the preferred minus the other", "difference of scores", "held-out pairs")
    axes.hist(deltas, bins=30, color=INK)
    axes.axvline(0, color="#888888", linewidth=1, linestyle="--")
    return figure


def _lengths(judged: Judged) -> Figure:
    figure, axes = _axes("Does it only count tokens?", "tokens", "score")
    shown = np.linspace(0, len(judged.scores) - 1, min(DOTS, len(judged.scores))).astype(int)
    axes.plot(judged.lengths[shown], judged.scores[shown], ".", color=INK, markersize=4, alpha=0.6)
    return figure
