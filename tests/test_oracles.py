"""Hidden preferences, and the noise with which synthetic annotators follow them. Pure: no database."""

import math
import random

import pytest

from annotate.oracles import load_oracle
from annotate.synthetic import noisy_scores, ranks_of, strength_of


def test_positive_likes_gladness():
    glad, plain, sad = load_oracle("positive")("?", ["What a lovely day!", "It is Monday.", "This is a terrible day."])
    assert glad > plain > sad
    assert plain == 0


def test_concise_likes_fewer_words():
    assert load_oracle("concise")("?", ["one two", "one two three", "你好吗", ""]) == pytest.approx(
        [-0.2, -0.3, -0.3, 0]
    )


def test_curious_likes_whoever_turns_to_the_reader():
    curious = load_oracle("curious")
    both, asks, says_you, neither = curious(
        "?", ["And you, what do you think?", "Is it late?", "Here you are.", "It is late."]
    )
    assert both > asks and both > says_you
    assert min(asks, says_you) > neither == 0
    assert curious("?", ["您觉得呢？"])[0] > 0.5


@pytest.mark.parametrize("text", ["It is a long way home. ", "What a lovely, happy, wonderful day! "])
def test_neither_length_nor_gladness_moves_the_curious(text):
    assert load_oracle("curious")("?", [text, text * 10]) == [0, 0]


def test_random_has_no_preference():
    indifferent = load_oracle("random")
    wins = sum(a > b for a, b in (indifferent("?", ["long text", "x"]) for _ in range(2000)))
    assert 880 < wins < 1120  # 1000 ± 5 standard deviations


def test_an_oracle_may_be_any_function():
    assert load_oracle("math:gcd") is math.gcd


@pytest.mark.parametrize(
    "name", ["", "wise", "no_such_module:function", "math:no_such_function", "math:pi", ":", "os:"]
)
def test_an_oracle_that_is_not_there_is_named(name):
    with pytest.raises(ValueError, match="oracle"):
        load_oracle(name)


def test_its_noise_is_that_of_bradley_and_terry():
    rng = random.Random(3)
    draws = (noisy_scores([0.3, 0.1], 0.2, rng) for _ in range(20_000))
    share = sum(first > second for first, second in draws) / 20_000
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.015)  # (0.3 − 0.1) / 0.2 = 1


def test_equal_scores_stay_equal_and_no_temperature_is_no_noise():
    rng = random.Random(3)
    a, b, c = noisy_scores([0.5, 0.5, 0.1], 1.0, rng)
    assert a == b != c
    assert noisy_scores([0.5, 0.1], 0, rng) == [0.5, 0.1]


def test_ranks_are_dense():
    assert ranks_of([0.1, 0.9, 0.9, -1]) == [2, 1, 1, 3]


@pytest.mark.parametrize(
    ("scores", "strength"), [([1, 0], 3), ([0.1, 0, 0], 1), ([0.5, 0], 2), ([2, 2], 1), ([9, 0], 3)]
)
def test_strength_grows_with_the_gap(scores, strength):
    assert strength_of(scores, 3) == strength
