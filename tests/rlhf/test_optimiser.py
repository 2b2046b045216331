"""Steps of bf16 weights add up; of fp32 weights they are torch's, to the bit."""

import pytest
import torch
from torch import nn

from tests.rlhf.run_folders import make_run
from trainer.rlhf.checkpoint import optimiser_tensors, restore_optimiser
from trainer.rlhf.optimiser import MasterAdamW
from trainer.rlhf.ppo_job import prepare

OPTIONS = {"lr": 1e-4, "weight_decay": 0.0}


def weights(dtype):
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(size, generator=generator).to(dtype)) for size in (7, 3)]


def train(optimiser, parameters, steps):
    for step in steps:
        optimiser.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = (1 + 0.1 * noise).to(torch.bfloat16).to(parameter.dtype)
        optimiser.step()


def test_it_is_torchs_where_weights_are_fp32():
    ours, theirs = weights(torch.float32), weights(torch.float32)
    train(MasterAdamW(ours, **OPTIONS), ours, range(9))
    train(torch.optim.AdamW(theirs, **OPTIONS), theirs, range(9))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_small_steps_of_bf16_weights_add_up():
    """100 steps of some 1e-4 move a weight by 0.01; bf16 near 1 knows no step under 0.004."""
    ours, exact = weights(torch.bfloat16), [nn.Parameter(each.float()) for each in weights(torch.bfloat16)]
    train(MasterAdamW(ours, **OPTIONS), ours, range(100))
    train(torch.optim.AdamW(exact, **OPTIONS), exact, range(100))
    assert all(torch.equal(a, b.bfloat16()) for a, b in zip(ours, exact, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(ours, weights(torch.bfloat16), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_goes_on_from_its_state_as_if_nothing_had_been(dtype):
    whole, broken = weights(dtype), weights(dtype)
    train(MasterAdamW(whole, **OPTIONS), whole, range(40))
    first = MasterAdamW(broken, **OPTIONS)
    train(first, broken, range(25))
    saved = {name: value.clone() for name, value in optimiser_tensors(first).items()}
    again = [nn.Parameter(weight.detach().clone()) for weight in broken]
    second = MasterAdamW(again, **OPTIONS)
    restore_optimiser(second, saved)
    train(second, again, range(25, 40))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


@pytest.mark.parametrize(("lora", "rate"), [({}, 3e-4), (None, 1e-5)])
def test_a_policys_rate_is_that_of_what_is_trained(tmp_path, tiny_base, lora, rate):
    run = make_run(tmp_path, tiny_base, lora=lora, ppo={"learning_rate": None})
    job = prepare(run, run.config, "tests.rlhf.rewards:has_e")
    assert job.optimiser.param_groups[0]["lr"] == rate
