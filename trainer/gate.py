"""The gate: may a candidate serve? Pure functions of what was measured; every threshold can be set per policy."""

from typing import NamedTuple

DEFAULT_THRESHOLDS = {
    # The candidate beats its parent on held-out prompts, by the reward model of the run …
    "min_win_rate": 0.55,
    # … and does not lose by the independent judge, which saw other prompts' rankings. Few of them, so its win rate
    # of some fifty pairs is noisy: a little under a half is no loss, unless the interval is under it too while the
    # reward model's is over it, and the judge beats chance (`is_overoptimised`). At 0 the judge is not heard at all.
    "min_judge_win_rate": 0.45,
    # Nats a completion, from the base model.
    "max_kl": 12.0,
    # Mean length over the parent's.
    "min_length_ratio": 0.5,
    "max_length_ratio": 2.0,
    # Share of a completion's repeated 3-grams, over the parent's.
    "max_repetition_gain": 0.1,
    # Held-out pairwise accuracy of the reward model.
    "min_reward_accuracy": 0.52,
}

OVER_OPTIMISED = (
    "Its reward model prefers it and the independent judge does not: it learned to please the reward model."
)


class Check(NamedTuple):
    name: str
    value: float
    threshold: float
    has_passed: bool
    sentence: str


class Verdict(NamedTuple):
    checks: list[Check]

    @property
    def has_passed(self) -> bool:
        return all(check.has_passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """Why it was refused, or that it was not, in words."""
        reasons = [check.sentence for check in self.checks if not check.has_passed]
        return " ".join(reasons) or "It passed every check."

    def as_dict(self) -> dict:
        return {
            "has_passed": self.has_passed,
            "sentence": self.sentence,
            "checks": [check._asdict() for check in self.checks],
        }


def weigh(evaluation: dict, report: dict, thresholds: dict) -> Verdict:
    """Hold what `evaluation.json` and the reward model's `report.json` measured against the thresholds.

    A measure that is absent (no judge, no held-out pairs) is left out: what was not measured cannot refuse.
    """
    limit = DEFAULT_THRESHOLDS | thresholds
    length = evaluation["length"]
    length_ratio = length["candidate"] / max(length["parent"], 1e-9)
    repetition = evaluation.get("repetition") or {}
    measured = [
        at_least("min_win_rate", value_of(evaluation.get("win_rate")), limit, "Win rate over its parent"),
        at_least("min_judge_win_rate", value_of(evaluation.get("judge")), limit, "Win rate by the independent judge"),
        over_optimised(evaluation, limit),
        at_most("max_kl", evaluation.get("kl"), limit, "KL to the base, in nats,"),
        at_least("min_length_ratio", length_ratio, limit, "Length over its parent's"),
        at_most("max_length_ratio", length_ratio, limit, "Length over its parent's"),
        at_most("max_repetition_gain", gain(repetition), limit, "Repetition beyond its parent's"),
        at_least("min_reward_accuracy", value_of(report.get("accuracy")), limit, "Held-out reward accuracy"),
    ]
    return Verdict([check for check in measured if check is not None])


def over_optimised(evaluation: dict, limit: dict) -> Check | None:
    """The refusal of a candidate that its reward model surely prefers and the judge surely does not; None else."""
    if not evaluation.get("is_overoptimised") or limit["min_judge_win_rate"] == 0:
        return None
    return Check("is_overoptimised", evaluation["judge"]["high"], 0.5, False, OVER_OPTIMISED)


def value_of(estimate: dict | None) -> float | None:
    return estimate.get("value") if estimate else None


def gain(repetition: dict) -> float | None:
    if "candidate" not in repetition or "parent" not in repetition:
        return None
    return repetition["candidate"] - repetition["parent"]


def at_least(name: str, value: float | None, limit: dict, words: str) -> Check | None:
    if value is None:
        return None
    sentence = f"{words} is {value:.2f}; at least {limit[name]:.2f} is asked."
    return Check(name, value, limit[name], value >= limit[name], sentence)


def at_most(name: str, value: float | None, limit: dict, words: str) -> Check | None:
    if value is None:
        return None
    sentence = f"{words} is {value:.2f}; at most {limit[name]:.2f} is allowed."
    return Check(name, value, limit[name], value <= limit[name], sentence)
