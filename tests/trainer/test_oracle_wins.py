import pytest

from trainer.oracle_wins import win_rate


def by_length(_prompt, texts):
    return [float(len(text)) for text in texts]


def test_it_counts_wins_and_half_the_ties_prompts_weighing_alike():
    # First prompt: aa beats a, ties aa: (1 + 0.5) / 2 = 0.75. Second: b loses to bbb: 0. Mean 0.375.
    rate = win_rate(by_length, ["p", "q"], [["aa"], ["b"]], [["a", "aa"], ["bbb"]])
    assert rate.value == pytest.approx(0.375)
    assert rate.prompts == 2
    assert rate.pairs == 3


def test_its_interval_is_wide_where_few_prompts_agree():
    # Wilson's of 5 of 5: 5 / (5 + 1.96²) to 1.
    rate = win_rate(by_length, ["p"] * 5, [["aa"]] * 5, [["a"]] * 5)
    assert (rate.low, rate.value, rate.high) == (pytest.approx(5 / (5 + 1.96**2), abs=1e-4), 1.0, 1.0)


def test_its_interval_has_the_width_of_a_coin_tossed_per_prompt():
    # 100 prompts, half won: the standard error is 0.05, the 95 % interval about 0.4 to 0.6.
    wins = [["aa"] if index % 2 else ["a"] for index in range(100)]
    losses = [["a"] if index % 2 else ["aa"] for index in range(100)]
    rate = win_rate(by_length, ["p"] * 100, wins, losses)
    assert rate.low == pytest.approx(0.40, abs=0.02)
    assert rate.high == pytest.approx(0.60, abs=0.02)
