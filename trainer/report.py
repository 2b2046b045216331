"""What a run's folder and its verdict say, in the shape that pages show. Reads only."""

import json
from pathlib import Path
from typing import Any

from trainer.models import TrainingRun
from trainer.run_folder import run_folder


def reward_report(run: TrainingRun) -> dict[str, Any]:
    """The reward model's report; empty until there is one."""
    if run.candidate_id and run.candidate.metrics.get("reward"):
        return run.candidate.metrics["reward"]
    return read_json(run, "reward/report.json")


def reward_plots(run: TrainingRun) -> dict[str, Path]:
    """The plots that the report names and that are there, by name."""
    folder = run_folder(run) / "reward"
    named = [Path(name) for name in reward_report(run).get("plots", [])]
    found = {path.stem: folder / "plots" / path.name for path in named}
    return {name: path for name, path in found.items() if path.is_file()}


def evaluation(run: TrainingRun) -> dict[str, Any]:
    if run.candidate_id and run.candidate.metrics.get("evaluation"):
        return run.candidate.metrics["evaluation"]
    return read_json(run, "evaluation.json")


def read_json(run: TrainingRun, name: str) -> dict[str, Any]:
    try:
        found = json.loads((run_folder(run) / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
