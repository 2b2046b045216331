"""The report on data whose truth is known: calibration, intervals, the length rival, slices, duplicates, verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.rlhf.planted import rankings_of
from trainer.gate import weigh
from trainer.rlhf.data import Completion, Ranking
from trainer.rlhf.duplicates import near_duplicates
from trainer.rlhf.pairs import pairs_of
from trainer.rlhf.reward_plots import draw_plots
from trainer.rlhf.reward_report import (
    Interval,
    Judged,
    accuracy_interval,
    build_report,
    calibration,
    correctness,
    lead_interval,
    leak_warning,
    length_sign,
    mean_kendall_tau,
    oriented,
    reliability,
    verdict,
)

WORDS = [f"word{number}" for number in range(200)]


def ranking(number=0, ranks=(1, 2), text=None, **changes) -> Ranking:
    completions = tuple(Completion(str(place), f"text {place}") for place in range(len(ranks)))
    prompt = [{"role": "user", "content": text or f"What is {number}?"}]
    return Ranking(str(number), f"p{number}", prompt, completions, ranks, **changes)


def known(prompts, *, k=2, seed=0):
    """Scores, and rankings drawn from the Bradley-Terry model of just these scores."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=1.5, size=(prompts, k))
    return Judged(rankings_of(scores, rng), scores.flatten(), rng.integers(5, 40, size=scores.size).astype(float))


def pair_deltas(judged):
    winners = np.array([ranking.ranks.index(1) for ranking in judged.rankings])
    scores = judged.scores.reshape(-1, 2)
    rows = np.arange(len(scores))
    return scores[rows, winners] - scores[rows, 1 - winners]


def test_it_finds_data_from_a_known_model_calibrated():
    errors = []
    for prompts in (500, 30_000):
        found = calibration(pair_deltas(known(prompts)), seed=1)
        errors.append(found.ece)
    assert errors[1] < 0.01 < errors[0]
    assert found.temperature == pytest.approx(1.0, abs=0.03)


def test_it_says_how_large_the_error_of_a_perfect_model_is_on_so_few_pairs():
    found = [calibration(pair_deltas(known(100, seed=seed)), seed=seed) for seed in range(40)]
    errors, by_chance = (np.array(each) for each in zip(*[(one.ece, one.ece_by_chance) for one in found], strict=True))
    assert by_chance.mean() == pytest.approx(errors.mean(), rel=0.1) and errors.mean() > 0.08
    too_sure = calibration(5 * pair_deltas(known(2000)), seed=1)
    assert too_sure.ece > 4 * too_sure.ece_by_chance


def test_it_finds_the_temperature_of_scores_that_are_too_sure():
    deltas = pair_deltas(known(20_000))
    found = calibration(3 * deltas, seed=1)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.ece > 0.05


def test_it_measures_brier_and_nll_by_hand():
    deltas = np.array([np.log(3), np.log(3), -np.log(3)])  # chances of 3/4, 3/4, 1/4
    found = calibration(deltas, seed=1)
    assert found.brier == pytest.approx((1 / 16 + 1 / 16 + 9 / 16) / 3)
    assert found.nll == pytest.approx(-(2 * np.log(3 / 4) + np.log(1 / 4)) / 3)


def test_it_bins_by_equal_mass():
    chance, outcome = np.linspace(0, 1, 100) ** 4, np.ones(100)
    bins = reliability(chance, outcome)
    assert [mass for mass, _, _ in bins] == [0.1] * 10
    assert sum(mass * mean for mass, mean, _ in bins) == pytest.approx(chance.mean())


def test_it_turns_half_the_pairs_round():
    logits, outcome = oriented(np.ones(1000), seed=0)
    assert 0.45 < outcome.mean() < 0.55
    assert set(zip(logits.tolist(), outcome.tolist(), strict=True)) == {(1.0, 1.0), (-1.0, 0.0)}


def test_its_intervals_count_prompts_and_not_pairs():
    correct = np.repeat([1.0, 0.0] * 20, 30)
    together = accuracy_interval(correct, np.repeat(np.arange(40), 30))
    apart = accuracy_interval(correct, np.arange(1200))
    assert together.value == apart.value == 0.5
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.5 / 40**0.5, rel=0.15)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 0.5 / 1200**0.5, rel=0.15)


def test_it_does_not_take_a_few_prompts_for_a_proof():
    one = build_report(
        Judged([ranking(0, (1, 2, 3))], np.array([3.0, 2, 1]), np.array([1.0, 2, 3])), length_sign=1, seed=0
    )
    assert one["accuracy"]["value"] == 1.0 and one["accuracy"]["low"] < 0.5 and one["lead"]["low"] < 0
    assert "which chance could give too" in one["verdict"]
    three = Judged([ranking(number) for number in range(3)], np.array([1.0, 0] * 3), np.array([1.0, 2] * 3))
    assert "by less than 3 pairs can prove" in build_report(three, length_sign=1, seed=0)["verdict"]


def test_its_intervals_cover_what_is_true_as_often_as_they_say():
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        of_prompt = rng.beta(4, 2, size=40)  # two thirds on average, alike within a prompt
        pairs = rng.integers(1, 7, size=40)
        prompts = np.repeat(np.arange(40), pairs)
        found = accuracy_interval((rng.random(len(prompts)) < of_prompt[prompts]).astype(float), prompts)
        covered.append(found.low <= 2 / 3 <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_it_averages_kendalls_tau_over_rankings():
    judged = Judged(
        [ranking(0, (1, 2, 3)), ranking(1, (1, 2, 3)), ranking(2, (1, 1, 1))],
        np.array([3.0, 2, 1, 2, 3, 1, 3, 2, 1]),
        np.ones(9),
    )
    assert mean_kendall_tau(judged) == pytest.approx((1 + 1 / 3) / 2)


def test_it_says_when_counting_tokens_does_as_well():
    judged = known(200)
    lengths = np.array([float(rank == 1) for r in judged.rankings for rank in r.ranks]) + 5
    report = build_report(judged._replace(lengths=lengths), length_sign=1, seed=0)
    assert report["length_baseline"]["value"] == 1.0
    assert report["beats_length_baseline"] is False
    assert "does not beat the length-only baseline" in report["verdict"]


def test_it_says_when_it_beats_length_and_by_how_much():
    report = build_report(known(400), length_sign=1, seed=0)
    assert report["beats_length_baseline"] is True
    assert "better than length by" in report["verdict"]
    assert report["accuracy"]["pairs"] == 400
    assert abs(report["length_correlation"]) < 0.15


@pytest.mark.parametrize("count", [10, 50])
def test_the_interval_of_the_lead_holds_the_truth_in_19_of_20_cases(count):
    """Prompts of six pairs, right on 70 % against 55 %; with p (1 - p) of a coin it held in 199 of 200."""
    generator, prompts, held = np.random.default_rng(1), np.repeat(np.arange(count), 6), 0
    for _ in range(400):
        correct, rival = (generator.random(6 * count) < share for share in (0.70, 0.55))
        lead = lead_interval(correct.astype(float), rival.astype(float), prompts)
        held += lead.low <= 0.15 <= lead.high
    assert 0.92 <= held / 400 <= 0.975


@pytest.mark.parametrize(
    ("accuracy", "lead", "words"),
    [
        ((0.52, 0.45, 0.6), (0.01, -0.1, 0.1), "which chance could give too"),
        ((0.6, 0.55, 0.65), (0.02, -0.01, 0.05), "by less than 100 pairs can prove"),
        ((0.7, 0.6, 0.8), (0.2, 0.1, 0.3), "better than length by 20 points (10 to 30)"),
        ((0.7, 0.6, 0.8), (-0.1, -0.2, 0.0), "Do not train on it yet"),
    ],
)
def test_it_gives_a_sentence_for_each_case(accuracy, lead, words):
    assert words in verdict(Interval(*accuracy, 100), Interval(0.5, 0.4, 0.6, 100), Interval(*lead, 100))


def test_it_survives_a_held_out_part_without_a_preference():
    report = build_report(Judged([ranking(0, (1, 1))], np.zeros(2), np.zeros(2)), length_sign=1, seed=0)
    assert "no held-out pair" in report["verdict"] and report["accuracy"] is None
    assert weigh({"length": {"candidate": 9, "parent": 9}}, report, {}).has_passed


def test_it_slices_by_annotator_language_checkpoint_and_length_gap():
    rankings = [
        replace(ranking(0), annotator="alice", language="en", checkpoints=("c1", "c2")),
        replace(ranking(1), annotator="bob", language="fr"),
        replace(ranking(2), annotator="bob"),
    ]
    judged = Judged(rankings, np.array([1.0, 0, 0, 1, 1, 0]), np.array([1.0, 1, 1, 5, 1, 9]))
    found = build_report(judged, length_sign=1, seed=0)["slices"]
    assert found["annotator"] == {"alice": {"accuracy": 1.0, "pairs": 1}, "bob": {"accuracy": 0.5, "pairs": 2}}
    assert found["language"] == {"en": {"accuracy": 1.0, "pairs": 1}, "fr": {"accuracy": 0.0, "pairs": 1}}
    assert found["checkpoint"] == {"c1": {"accuracy": 1.0, "pairs": 1}}
    assert sum(part["pairs"] for part in found["length_gap"].values()) == 3


def test_it_learns_which_way_length_points():
    shorter_wins = [ranking(number, (1, 2)) for number in range(3)]
    assert length_sign(pairs_of(shorter_wins), np.array([1.0, 9, 1, 9, 90, 1])) == -1


def test_it_counts_an_undecided_score_half():
    assert correctness(np.array([2.0, 0.0, -1.0])).tolist() == [1.0, 0.5, 0.0]


def test_it_finds_near_duplicate_prompts_between_the_splits():
    words = [f"word{number}" for number in range(30)]
    train = [ranking(0, text=" ".join(words)), ranking(1, text="Something else altogether, about the sea.")]
    near = [ranking(2, text=" ".join([*words[:-1], "other"])), ranking(3, text=" ".join(words[:12]))]
    found = near_duplicates([train[:1], train[1:]], near)
    assert found["count"] == 1 and found["of"] == 2
    assert found["prompts"] == [{"held_out": "p2", "train": "p0", "jaccard": round(27 / 29, 3)}]


def test_it_counts_a_prompt_with_many_ids_once():
    train, held_out = [ranking(0), ranking(1)], [ranking(2), ranking(3, text="What is 2?"), ranking(4, text="Why?")]
    assert near_duplicates([train], held_out)["of"] == 2
    judged = Judged([ranking(number, text="Why?") for number in range(30)], np.array([1.0, 0] * 30), np.ones(60))
    assert build_report(judged, length_sign=1, seed=0)["accuracy"]["low"] < 0.5, "one prompt proves nothing"


def test_it_says_how_many_held_out_prompts_are_nearly_training_prompts():
    assert leak_warning({"count": 0, "of": 8}) == ""
    assert leak_warning({"count": 3, "of": 8}).startswith(" Held-out prompts that are nearly training prompts: 3 of 8.")


@pytest.mark.parametrize("first", ["一", "あ", "ก"])
def test_it_finds_near_duplicates_in_scripts_without_spaces(first):
    characters = [chr(ord(first) + number) for number in range(30)]
    train = [ranking(0, text="".join(characters)), ranking(1, text="".join(reversed(characters)))]
    near = [ranking(2, text="".join([*characters[:-1], "x"])), ranking(3, text="".join(characters[:12]))]
    found = near_duplicates([train], near)
    assert found["prompts"] == [{"held_out": "p2", "train": "p0", "jaccard": round(27 / 29, 3)}]


def test_it_finds_the_near_duplicates_that_comparing_all_finds():
    rng = np.random.default_rng(0)
    train = [" ".join(rng.choice(WORDS, size=30)) for _ in range(200)]
    held_out = [" ".join(rng.choice(WORDS, size=30)) for _ in range(20)]
    for number in range(10):  # a tenth to all of the words as in a training prompt
        words = train[number].split()
        held_out.append(" ".join([*rng.choice(WORDS, size=number), *words[number:]]))

    def triples(text):
        return {tuple(text.split()[start : start + 3]) for start in range(28)}

    def jaccard(first, second):
        return len(triples(first) & triples(second)) / len(triples(first) | triples(second))

    expected = {f"h{place}" for place, text in enumerate(held_out) if max(jaccard(text, own) for own in train) >= 0.8}
    sides = [
        [replace(ranking(text=text), prompt_id=f"{side}{place}") for place, text in enumerate(texts)]
        for side, texts in (("t", train), ("h", held_out))
    ]
    found = near_duplicates([sides[0]], sides[1])
    assert {entry["held_out"] for entry in found["prompts"]} == expected and len(expected) >= 3


def test_it_finds_near_duplicates_among_prompts_of_one_template():
    template = "Please read the following text with care and then answer the question that stands below it: {}"
    subjects = [" ".join(f"{letter}{number}" for letter in "abcdefghij") for number in range(300)]
    train = [ranking(number, text=template.format(text)) for number, text in enumerate(subjects)]
    held_out = [ranking(1000, text=train[250].prompt[0]["content"] + " please"), ranking(1001, text=template)]
    (entry,) = near_duplicates([train], held_out)["prompts"]
    assert (entry["held_out"], entry["train"]) == ("p1000", "p250")


def test_it_draws_the_same_plots_each_time(tmp_path):
    judged = known(50)
    report = {"candidates": [{"pooling": "mean", "layer": 2, "l2": 0.1, "accuracy": 0.6, "nll": 0.6}]}
    drawn = [draw_plots(tmp_path / name / "plots", judged, report, seed=0) for name in ("a", "b")]
    assert drawn[0] == ["plots/layers.svg", "plots/reliability.svg", "plots/margins.svg", "plots/lengths.svg"]
    for plot in drawn[0]:
        assert (tmp_path / "a" / plot).read_bytes() == (tmp_path / "b" / plot).read_bytes()
