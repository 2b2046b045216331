"""Packed rows must score as rows alone do, with rotary and with learned positions."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from trainer.rlhf.packing import Group, batches, pack, pool, unpacked
from trainer.rlhf.trunk import hidden_states, pooled_features

GROUPS = [
    Group([1, 20, 30, 40], [[50, 60, 2], [70, 2], [80, 90, 100, 110, 2]]),
    Group([1, 21], [[51, 2], [61, 62, 63]]),
    Group([1, 22, 32, 42, 52, 62], [[72, 82, 2], [72, 82, 2]]),
]


@pytest.fixture(params=["tiny_base", "tiny_gpt2"])
def model(request):
    return AutoModelForCausalLM.from_pretrained(request.getfixturevalue(request.param), dtype=torch.float32).eval()


@torch.no_grad()
def alone(model, prompt_ids, completion, layer):
    """Hidden states of one completion in a plain forward, with no mask, position ids or padding of ours."""
    output = model(torch.tensor([prompt_ids + completion]), output_hidden_states=True, use_cache=False)
    return output.hidden_states[layer][0, len(prompt_ids) :]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_it_gives_packed_completions_the_states_they_have_alone(model, layer):
    features = pooled_features(
        model, GROUPS, readings=[("last", layer), ("mean", layer)], pad_id=2, max_tokens=30, is_packed=True
    )
    expected = [
        alone(model, group.prompt_ids, completion, layer) for group in GROUPS for completion in group.completions
    ]
    torch.testing.assert_close(
        features["mean", layer], torch.stack([states.mean(0) for states in expected]), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        features["last", layer], torch.stack([states[-1] for states in expected]), rtol=1e-4, atol=1e-5
    )


def test_it_gives_unpacked_rows_the_same_features(model):
    arguments = {"readings": [("mean", 2)], "pad_id": 2, "max_tokens": 40}
    packed = pooled_features(model, GROUPS, **arguments, is_packed=True)
    single = pooled_features(model, GROUPS, **arguments, is_packed=False)
    torch.testing.assert_close(packed["mean", 2], single["mean", 2], rtol=1e-4, atol=1e-5)


def test_it_gives_the_same_gradient_packed_and_unpacked(model):
    weight = torch.linspace(-1, 1, model.config.hidden_size)
    gradients = []
    for rows in (GROUPS[:1], unpacked(GROUPS[0])):
        model.zero_grad()
        batch = pack(rows, pad_id=2)
        states = hidden_states(
            model,
            (2,),
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=batch.attention_mask,
        )[2]
        (pool(states, batch.owner, batch.count, "last") @ weight).sum().backward()
        gradients.append(model.get_input_embeddings().weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_it_restarts_positions_after_the_prompt_and_hides_siblings():
    batch = pack([Group([7, 8], [[9, 10], [11]]), Group([5], [[6]])], pad_id=0)
    assert batch.input_ids.tolist() == [[7, 8, 9, 10, 11], [5, 6, 0, 0, 0]]
    assert batch.position_ids[0].tolist() == [0, 1, 2, 3, 2]
    assert batch.owner.tolist() == [[-1, -1, 0, 0, 1], [-1, 2, -1, -1, -1]]
    assert batch.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert batch.attention_mask[1, 0].any(-1).all(), "padding must see something, or its softmax is 0/0"


def test_it_pools_by_hand():
    hidden = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]])
    owner = torch.tensor([[-1, 1, 1, 0]])
    assert pool(hidden, owner, 2, "mean").tolist() == [[8.0], [3.0]]
    assert pool(hidden, owner, 2, "last").tolist() == [[8.0], [4.0]]


def test_it_fills_batches_by_length_within_the_token_limit():
    lengths = [3, 9, 4, 9, 2]
    groups = [Group([1] * (length - 1), [[2]]) for length in lengths]
    found = list(batches(groups, max_tokens=18))
    assert found == [[1, 3], [2, 0, 4]]
    assert all(max(lengths[i] for i in batch) * len(batch) <= 18 for batch in found)


def test_it_stops_the_forward_at_the_deepest_layer_asked_for(model):
    calls = []
    blocks = model.model.layers if hasattr(model, "model") else model.transformer.h
    handle = blocks[1].register_forward_hook(lambda *_: calls.append(1))
    ids = torch.tensor([[1, 5, 6]])
    hidden_states(model, (0, 1), input_ids=ids)
    assert not calls
    hidden_states(model, (1, 2), input_ids=ids)
    assert len(calls) == 1
    handle.remove()
