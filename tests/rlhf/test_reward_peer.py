"""What the benchmarks give their peers."""

import os

import pytest
import torch

from bench.reward import whole_forward
from bench.reward_peer import Training, all_pairs, right_of, run
from bench.reward_rankings import make_rankings
from tests.tiny_models import make_llama

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    """A benchmark hides devices from its process for good; here the next test must find them again."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.backends.mps, "is_available", torch.backends.mps.is_available)


def trained(tmp_path, *, is_lora, learning_rate=1e-3, seed=1, max_length=384, dtype="float32"):
    base = tmp_path / "base"
    base = base if base.exists() else make_llama(base)
    return Training(str(base), "cpu", dtype, is_lora, learning_rate, 12, whole_forward(12), max_length, seed)


def training(pairs_per_step, pairs_per_forward):
    return Training("base", "cpu", "float32", True, 2e-4, pairs_per_step, pairs_per_forward, 384, 1)


@pytest.mark.parametrize(("rankings", "forwards"), [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6)])
def test_it_gives_trl_as_many_pairs_a_step_as_our_rankings_have(rankings, forwards):
    pairs = 6 * rankings
    assert training(pairs, whole_forward(pairs)).forwards_per_step == forwards


def test_it_refuses_a_step_that_trl_would_cut_short():
    with pytest.raises(ValueError, match="12 pairs a step are not whole forwards of 8"):
        _ = training(12, 8).forwards_per_step


def test_it_makes_a_pair_of_each_two_that_differ_in_rank():
    ranking = {
        "prompt": [{"role": "user", "content": "Why?"}],
        "completions": [{"id": text, "text": text[0]} for text in ("a", "b", "c", "b2")],
        "ranks": [2, 1, 2, 2],
    }
    pairs = [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in all_pairs([ranking])]
    assert pairs == [("b", "a"), ("b", "c")], "and none of two with the same text"


@pytest.mark.filterwarnings("default")  # those of other people's libraries are theirs
@pytest.mark.parametrize("is_lora", [True, False])
def test_it_counts_the_steps_that_trl_took(tmp_path, is_lora):
    theirs = run(trained(tmp_path, is_lora=is_lora), make_rankings(4, 1), make_rankings(2, 1, first=100))
    assert theirs["steps"] == 2  # four rankings are 24 pairs
    assert len(theirs["lengths"]) == 2 * (24 - theirs["dropped"])
    assert theirs["pairs"] == 12
    assert 0 <= theirs["right"] <= 12


@pytest.mark.filterwarnings("default")
def test_trl_starts_from_the_same_head_at_the_same_seed(tmp_path, monkeypatch):
    """Transformers draws it when the model is loaded, before the trainer has seeded anything."""
    heads = []

    def keep(model, *_given):
        heads.append(model.score.weight.detach().clone())
        return 0.0, 1

    monkeypatch.setattr("bench.reward_peer.right_of", keep)
    for seed in (1, 1, 2):
        torch.rand(1)
        run(trained(tmp_path, is_lora=False, learning_rate=0.0, seed=seed), make_rankings(2, 1), [])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("is_lora", [True, False])
def test_what_was_trained_in_bf16_is_scored_in_fp32(tmp_path, monkeypatch, is_lora):
    seen = set()

    def note(_layer, _rows, found):
        seen.add((found.dtype, torch.is_autocast_enabled("cpu")))

    def watched(model, *given):
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.register_forward_hook(note)
        return right_of(model, *given)

    monkeypatch.setattr("bench.reward_peer.right_of", watched)
    training = trained(tmp_path, is_lora=is_lora, dtype="bfloat16")
    assert run(training, make_rankings(2, 1), make_rankings(2, 1, first=100))["pairs"] == 12
    assert seen == {(torch.float32, False)}


@pytest.mark.filterwarnings("default")
def test_it_counts_the_pairs_that_trl_drops(tmp_path):
    rankings = make_rankings(4, 1)
    whole = run(trained(tmp_path, is_lora=True), rankings, [])
    longest = max(whole["lengths"])
    shorter = run(trained(tmp_path, is_lora=True, max_length=longest - 1), rankings, [])
    assert shorter["dropped"] > 0
    assert len(shorter["lengths"]) == 2 * (24 - shorter["dropped"])
    assert max(shorter["lengths"]) < longest
