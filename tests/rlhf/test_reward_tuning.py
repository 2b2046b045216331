"""What one step of tuning changes, by hand where features are given, so that every gradient has a closed form."""

from __future__ import annotations

from contextlib import suppress
from math import e, exp, log, log1p, sqrt
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from tests.rlhf.test_reward_training import StopAfter
from trainer.rlhf.config import LoraConfig, RewardConfig
from trainer.rlhf.data import Completion, Ranking
from trainer.rlhf.folder import RunFolder, Stopped, StopSignal
from trainer.rlhf.journal import Journal
from trainer.rlhf.optimiser import MasterAdamW
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import pairs_of
from trainer.rlhf.policy import load_policy
from trainer.rlhf.processes import ALONE, Processes
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_loss import info_nce
from trainer.rlhf.reward_tuning import (
    Lesson,
    Trainee,
    _loss,
    lesson_plan,
    make_trainee,
    register_of,
    risen,
    tune,
    two_views,
)


class GivenFeatures(Trainee):
    """A completion's one token id is the number of its features: the score is features times weight."""

    def pooled(self, groups, *, is_packed):
        return torch.stack([FEATURES[ids[0]] for group in groups for ids in group.completions])


def softplus(x: float) -> float:
    return log1p(exp(x))


FEATURES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
START = (0.5, -0.25)


def trainee(*, dropout: float = 0.0) -> Trainee:
    weight = nn.Parameter(torch.tensor(START))
    head = RewardHead((Reading("mean", 0),), torch.tensor([START]))
    policy = SimpleNamespace(model=nn.Dropout(dropout).eval())
    return GivenFeatures(policy, None, head, torch.ones(1, 2), weight, {"score.weight": weight})


def lesson(*rankings: tuple[int, int], unranked: tuple[tuple[int, int], ...] = ()) -> Lesson:
    """Rankings of two, the better first, by the numbers of their features."""
    completions = (Completion("a", "x"), Completion("b", "y"))
    prompt = [{"role": "user", "content": "?"}]
    ranked = [Ranking(str(number), str(number), prompt, completions, (1, 2)) for number in range(len(rankings))]
    groups, fresh = ([Group([9], [[a], [b]]) for a, b in pairs] for pairs in (rankings, unranked))
    return Lesson(ranked, groups, pairs_of(ranked), unranked=fresh)


def one_step(trainee: Trainee, lesson: Lesson, folder, **config) -> tuple[list[float], dict[str, float]]:
    """The weights after a step at rate 0.01, and the step's metrics."""
    log = RunFolder(folder).log("reward")
    journal = Journal(log, StopSignal())
    journal.plan(1, done=0)
    settings = RewardConfig(learning_rate=0.01, **config)
    head = tune(trainee, lesson, settings, seed=1, state=None, journal=journal, processes=ALONE)
    (record,) = log.records()
    return head.weight.flatten().tolist(), record["metrics"]


@pytest.mark.parametrize("processes", [ALONE, Processes(rank=0, world=2)])
def test_a_step_whose_rankings_all_weigh_nothing_moves_nothing(tmp_path, monkeypatch, processes):
    """By momentum neither, in any number of processes; which ranking comes first in an epoch is its seed's choice."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)  # as if the other had nothing
    ranked = lesson((0, 1), (0, 1))
    order = [number for (number,) in lesson_plan(2, RewardConfig(rankings_per_step=1), 1)]
    weights = torch.zeros(2)
    weights[order[0]] = 1.0  # the second step has the one that weighs nothing
    ranked = ranked._replace(pairs=ranked.pairs._replace(weight=weights.to(ranked.pairs.weight)))
    journal = Journal(RunFolder(tmp_path).log("reward"), StopSignal())
    journal.plan(2, done=0)
    settings = RewardConfig(learning_rate=0.01, rankings_per_step=1)
    monkeypatch.setattr(StopSignal, "is_agreed", lambda stop, processes: False)
    head = tune(trainee(), ranked, settings, seed=1, state=None, journal=journal, processes=processes)
    assert head.weight.flatten().tolist() == pytest.approx([START[0] + 0.01, START[1] - 0.01], abs=1e-6)


@pytest.mark.parametrize(
    ("config", "margin", "loss"),
    [
        ({}, None, (softplus(-1.0) + log(2) + softplus(-1.0)) / 3),  # ties are half by default
        ({}, 0.5, (softplus(-0.5) + log(2) + softplus(-0.5)) / 3),
        ({"centring": 0.1}, None, (softplus(-1.0) + log(2) + softplus(-1.0) + 0.1 * (1 + 0 + 1)) / 3),
        ({"ties": "rao_kupper", "tie_parameter": 0.5}, None, (2 * softplus(-0.5) + 2 * softplus(0.5) - log(e - 1)) / 3),
        ({"ties": "davidson", "tie_parameter": 0.0}, None, (2 * log(1 + exp(-0.5) + exp(-1.0)) + log(3)) / 3),
    ],
)
def test_each_switch_of_the_loss_reaches_it(config, margin, loss):
    """Scores 1, 0, 0 of a first and two that tie: two decided pairs with difference 1 and a tie with 0."""
    completions = tuple(Completion(name, name) for name in "abc")
    ranked = [Ranking("r", "r", [{"role": "user", "content": "?"}], completions, (1, 2, 2))]
    pairs = pairs_of(ranked)
    margins = None if margin is None else torch.full((3,), margin)
    taught = Lesson(ranked, [], pairs, margins)
    scores, settings = torch.tensor([1.0, 0.0, 0.0]), RewardConfig(**config)
    found, right, decided = _loss(scores, [0], taught, register_of(taught), settings)
    assert float(found) == pytest.approx(loss, rel=1e-5)
    assert (right, decided) == (2.0, 2.0)


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_metarm_takes_the_gradient_at_the_risen_weights_and_applies_it_to_those_before(tmp_path, eta):
    """L = -log s(d.w), d = (1, -1); J = mean over two prompts of 2/4 s(|e.w|), e = (0, 2) and 0.

    grad J = 1/2 * 1/2 s'(|e.w|) sign(e.w) e with e.w = -1/2; grad L = -s(-d.w) d, whose norm the metrics have. The
    first step of Adam is its rate times the gradient's sign, from the weights it starts at.
    """
    found = one_step(trainee(), lesson((0, 1), unranked=((2, 3), (3, 3))), tmp_path, metarm=eta)
    slope = sigmoid(0.5) * (1 - sigmoid(0.5))
    risen = (START[0], START[1] + eta * -0.25 * slope * 2)
    norm = sqrt(2) * sigmoid(-(risen[0] - risen[1]))
    weight, metrics = found
    assert metrics["reward/grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert metrics["reward/loss"] == pytest.approx(-log(sigmoid(risen[0] - risen[1])), rel=1e-5)
    assert weight == pytest.approx([START[0] + 0.01, START[1] - 0.01], abs=1e-6)


def test_simcse_tells_a_completion_from_all_others_of_its_step(tmp_path):
    """All features alike: each view is one of four alike, which costs log 4; the pairs are even, which costs log 2."""
    _, metrics = one_step(trainee(dropout=0.1), lesson((0, 0), (0, 0)), tmp_path, simcse=0.5)
    assert metrics["reward/loss"] == pytest.approx(log(2) + 0.5 * log(4), rel=1e-5)


def test_simcse_in_two_passes_has_the_gradient_of_one_that_keeps_every_graph(tiny_base, tmp_path):
    rankings = lesson((0, 0), (0, 0), (0, 0))
    groups = [Group([1, 5, 6], [[7, 8, 2], [9, 2]]), Group([1, 4], [[3, 2], [11, 12, 2]]), Group([1], [[5, 2], [6, 2]])]
    rankings = rankings._replace(groups=groups)
    found = one_step(tuned_adapter(tiny_base), rankings, tmp_path, simcse=0.5, is_packed=False)[1]

    whole = tuned_adapter(tiny_base)
    settings = RewardConfig(is_packed=False)
    views = [two_views(whole, group, settings, (1, 1, number)) for number, group in enumerate(groups)]
    first, second = (torch.cat(side) for side in zip(*views, strict=True))
    better, worse = (first @ whole.weight).view(3, 2).T
    loss = -logsigmoid(better - worse).mean() + 0.5 * info_nce(first, second)
    gradients = torch.autograd.grad(loss, list(whole.parameters.values()))
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert not torch.equal(first, second)
    assert found["reward/loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert found["reward/grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def tuned_adapter(base) -> Trainee:
    """A head on a trunk whose adapter has learned something: on a fresh one dropout changes nothing."""
    policy = load_policy(base, dtype="float32", device="cpu")
    generator = torch.Generator().manual_seed(1)
    head = RewardHead((Reading("mean", 2),), torch.randn(1, 32, generator=generator))
    found = make_trainee(policy, head, LoraConfig(r=4, alpha=8, dropout=0.1), torch.ones(1, 32), seed=1)
    with torch.no_grad():
        for name, parameter in found.parameters.items():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=generator)
    return found


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def test_the_ascent_of_bf16_weights_starts_from_their_fp32_copies(tiny_base):
    """theta + eta grad J, rounded once: which weights round up depends on what their copies have beyond bf16."""
    policy = load_policy(tiny_base, dtype="bfloat16", device="cpu")
    head = RewardHead((Reading("mean", 2),), torch.randn(1, 32, generator=torch.Generator().manual_seed(1)))
    trainee = make_trainee(policy, head, None, torch.ones(1, 32), seed=1)
    generator = torch.Generator().manual_seed(2)
    start = {name: value.detach().clone() for name, value in trainee.parameters.items()}
    optimiser = MasterAdamW(trainee.parameters.values())
    with torch.no_grad():
        for master, _weight in optimiser.rounded.values():
            master.mul_(1 + (torch.rand(master.shape, generator=generator) - 0.5) / 256)
    masters = dict(zip(start, [master.detach().clone() for master in optimiser.masters], strict=True))
    gradients = {}
    for name, value in trainee.parameters.items():
        value.register_post_accumulate_grad_hook(lambda value, name=name: gradients.update({name: value.grad.clone()}))
    fresh = [Group([1, 5, 6], [[7, 8, 2], [9, 2]])]
    with risen(trainee, optimiser, fresh, RewardConfig(metarm=1e-4), (1, 1)):
        is_told_apart = False
        for name, gradient in gradients.items():
            expected = (masters[name] + 1e-4 * gradient.float()).to(start[name].dtype)
            rounded_twice = start[name] + (1e-4 * gradient.float()).to(start[name].dtype)
            torch.testing.assert_close(trainee.parameters[name].detach(), expected, rtol=0, atol=0, msg=name)
            is_told_apart |= name != "score.weight" and not torch.equal(expected, rounded_twice)
        assert is_told_apart
        assert all(value.grad is None for value in trainee.parameters.values())
    assert all(torch.equal(value, start[name]) for name, value in trainee.parameters.items())
    assert all(torch.equal(*pair) for pair in zip(optimiser.masters, masters.values(), strict=True))


def test_small_steps_of_a_bf16_trunk_add_up_and_outlive_a_stop(tiny_base, tmp_path):
    """A step of 1e-5 moves few bf16 weights by itself; the sum of 30 does, and is in the state."""
    groups = [Group([1, 5, 6], [[7, 8, 2], [9, 2]])] * 30
    rankings = lesson(*[(0, 0)] * 30)._replace(groups=groups)
    settings = RewardConfig(learning_rate=1e-5, rankings_per_step=1)

    def trained(folder, *stops) -> dict[str, torch.Tensor]:
        for stop in (*stops, StopSignal()):
            policy = load_policy(tiny_base, dtype="bfloat16", device="cpu")
            head = RewardHead((Reading("mean", 2),), torch.randn(1, 32, generator=torch.Generator().manual_seed(1)))
            found = make_trainee(policy, head, None, torch.ones(1, 32), seed=1)
            start = {name: value.detach().clone() for name, value in found.parameters.items()}
            journal = Journal(RunFolder(folder).log("reward"), stop)
            journal.plan(30, done=0)
            with suppress(Stopped):
                tune(found, rankings, settings, seed=1, state=folder / "state", journal=journal, processes=ALONE)
        moved = [not torch.equal(value, start[name]) for name, value in found.parameters.items()]
        assert sum(moved) > 1
        return {name: value.detach() for name, value in found.parameters.items()}

    whole, broken = trained(tmp_path / "whole"), trained(tmp_path / "broken", StopAfter(7))
    assert all(torch.equal(value, whole[name]) for name, value in broken.items())
