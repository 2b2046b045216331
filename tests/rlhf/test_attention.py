"""Our attention against torch's own, outputs and gradients, for shared and for separate key/value heads."""

import pytest
import torch

from trainer.rlhf.attention import attend


class Shared(torch.nn.Module):
    is_causal = True

    def __init__(self, groups: int):
        super().__init__()
        self.num_key_value_groups = groups


@pytest.mark.parametrize("kv_heads", [2, 6])
@pytest.mark.parametrize("is_bool", [True, False])
def test_it_is_softmax_attention(kv_heads, is_bool):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 6, 7, 4, generator=generator, requires_grad=True)
    key, value = (torch.randn(2, kv_heads, 7, 4, generator=generator, requires_grad=True) for _ in range(2))
    allowed = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7)
    mask = allowed if is_bool else torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    weights = torch.randn(2, 7, 6, 4, generator=generator)

    found, _ = attend(Shared(6 // kv_heads), query, key, value, mask)
    gradients = torch.autograd.grad((found * weights).sum(), (query, key, value))
    repeated = (part.repeat_interleave(6 // kv_heads, dim=1) for part in (key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    for ours, theirs in zip(
        gradients, torch.autograd.grad((expected * weights).sum(), (query, key, value)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
