"""MetaRM's ascent: from the fp32 copies, so that bf16 weights do not round a small one away."""

import torch

from trainer.rlhf.config import RewardConfig
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import load_policy
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_tuning import ascend, make_trainee

RATE = 1e-4


def test_the_ascent_of_bf16_weights_starts_from_their_fp32_copies(tiny_base):
    """theta + eta grad J, rounded once: which weights round up depends on what their copies have beyond bf16."""
    policy = load_policy(tiny_base, dtype="bfloat16", device="cpu")
    head = RewardHead((Reading("mean", 2),), torch.randn(1, 32, generator=torch.Generator().manual_seed(1)))
    trainee = make_trainee(policy, head, None, torch.ones(1, 32), seed=1)
    generator = torch.Generator().manual_seed(2)
    start = {name: value.detach().clone() for name, value in trainee.parameters.items()}
    masters = {
        name: value.float() * (1 + (torch.rand(value.shape, generator=generator) - 0.5) / 256)
        for name, value in start.items()
    }
    gradients = {}
    for name, value in trainee.parameters.items():
        value.register_post_accumulate_grad_hook(lambda value, name=name: gradients.update({name: value.grad.clone()}))
    ascend(trainee, masters, [Group([1, 5, 6], [[7, 8, 2], [9, 2]])], RewardConfig(metarm=RATE), (1, 1))
    is_told_apart = False
    for name, gradient in gradients.items():
        expected = (masters[name] + RATE * gradient.float()).to(start[name].dtype)
        rounded_twice = start[name] + (RATE * gradient.float()).to(start[name].dtype)
        torch.testing.assert_close(trainee.parameters[name].detach(), expected, rtol=0, atol=0, msg=name)
        is_told_apart |= name != "score.weight" and not torch.equal(expected, rounded_twice)
    assert is_told_apart
    assert all(value.grad is None for value in trainee.parameters.values())
