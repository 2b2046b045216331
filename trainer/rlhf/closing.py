"""What a finished stage says of itself: one line for whoever started it by hand, read from its product."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainer.rlhf.folder import RunFolder

ENDINGS = {
    "complete": "as many as were asked for",
    "kl": "stopped at the limit of the KL",
    "judge": "stopped since the independent judge's scores fell",
    "peak": "stopped past the peak of the independent judge's scores",
}


def closing_sentence(folder: RunFolder, stage: str) -> str:
    """What came out of a complete stage, and where it lies."""
    product = folder.product(stage)
    record = json.loads(product.read_text(encoding="utf-8"))
    if stage == "reward":
        return f"{record['verdict']} The reward model lies in {product.with_name('model')}."
    if stage == "evaluate":
        judge = f", {_share(record['judge'])} by the independent judge" if record["judge"] else ""
        return f"Win rate over the parent, held-out prompts: {_share(record['win_rate'])}{judge}. All in {product}."
    if stage == "ppo":
        updates = f"Updates: {record['updates']} ({ENDINGS[record['stopped_because']]})"
        return f"{updates}, {_without_sign(record['kl'])} nats from the reference. The policy lies in {product.parent}."
    return f"Steps: {record['steps']}. The policy lies in {product.parent}."


def changed_sentence(folder: RunFolder, stage: str, names: Sequence[str]) -> str:
    """What to do where a complete stage has read these otherwise than they are now."""
    return (
        f"This {stage} is of other contents of {', '.join(names)} than are there now: to have it made of these, remove "
        f"{folder.made_by(stage)}, and then what later stages have made of it."
    )


def _without_sign(kl: float) -> str:
    """To one digit, and 0 where that is nearest: an estimate of no distance may lie just below."""
    return f"{round(kl, 1) + 0.0:.1f}"


def _share(rate: dict) -> str:
    return f"{rate['value']:.0%} (95 % interval {100 * rate['low']:.0f} to {100 * rate['high']:.0f} %)"
