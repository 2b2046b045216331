import pytest

from trainer.gate import weigh

GOOD = {
    "win_rate": {"value": 0.8, "low": 0.7, "high": 0.9},
    "judge": {"value": 0.7},
    "kl": 5.0,
    "length": {"candidate": 30.0, "parent": 30.0, "base": 30.0},
    "repetition": {"candidate": 0.02, "parent": 0.02},
}
REPORT = {"accuracy": {"value": 0.7}}


def test_it_lets_a_better_candidate_pass():
    verdict = weigh(GOOD, REPORT, {})
    assert verdict.has_passed
    assert verdict.sentence == "It passed every check."


@pytest.mark.parametrize(
    ("change", "report", "word"),
    [
        ({"win_rate": {"value": 0.5}}, REPORT, "Win rate over its parent is 0.50; at least 0.55 is asked."),
        ({"judge": {"value": 0.4}}, REPORT, "independent judge"),
        ({"kl": 30.0}, REPORT, "KL to the base, in nats, is 30.00; at most 12.00 is allowed."),
        ({"length": {"candidate": 90, "parent": 30}}, REPORT, "Length over its parent's is 3.00"),
        ({"length": {"candidate": 3, "parent": 30}}, REPORT, "Length over its parent's is 0.10"),
        ({"repetition": {"candidate": 0.5, "parent": 0.1}}, REPORT, "Repetition"),
        ({}, {"accuracy": {"value": 0.5}}, "Held-out reward accuracy is 0.50"),
    ],
)
def test_it_refuses_and_says_why(change, report, word):
    verdict = weigh(GOOD | change, report, {})
    assert not verdict.has_passed
    assert word in verdict.sentence


def test_it_refuses_a_candidate_that_only_its_own_reward_model_likes():
    hacked = GOOD | {"win_rate": {"value": 0.99}, "judge": {"value": 0.2}}
    assert not weigh(hacked, REPORT, {}).has_passed


def test_it_refuses_an_over_optimised_candidate_whose_judge_is_near_a_half():
    """0.46 is over the judge's threshold of 0.45, and so is no reason of its own."""
    hacked = GOOD | {"judge": {"value": 0.46, "low": 0.43, "high": 0.49}, "is_overoptimised": True}
    verdict = weigh(hacked, REPORT, {})
    assert [check.name for check in verdict.checks if not check.has_passed] == ["is_overoptimised"]
    assert verdict.sentence == (
        "Its reward model prefers it and the independent judge does not: it learned to please the reward model."
    )
    assert weigh(hacked | {"is_overoptimised": False}, REPORT, {}).has_passed
    assert weigh(hacked, REPORT, {"min_judge_win_rate": 0}).has_passed, "who sets 0 does not ask the judge"


def test_it_takes_a_policys_own_thresholds():
    assert not weigh(GOOD, REPORT, {"min_win_rate": 0.9}).has_passed
    assert weigh(GOOD | {"kl": 30.0}, REPORT, {"max_kl": 40.0}).has_passed


def test_it_does_not_refuse_for_what_was_not_measured():
    bare = {"length": {"candidate": 10, "parent": 10}}
    assert weigh(bare, {}, {}).has_passed
