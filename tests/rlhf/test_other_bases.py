"""Bases that are not Llama: attention of their own, windows, short contexts; each read as it reads alone, or refused."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CodeGenConfig,
    CodeGenForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
)

from tests.tiny_models import make_tokenizer
from trainer.rlhf.config import LoraConfig
from trainer.rlhf.packing import Group, pack
from trainer.rlhf.policy import UnsupportedModel, load_policy
from trainer.rlhf.rollout import SamplingSettings, sample_ids
from trainer.rlhf.trunk import hidden_states, packed_inputs

SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
KINDS = {"gptj": (GPTJForCausalLM, GPTJConfig), "codegen": (CodeGenForCausalLM, CodeGenConfig)}
GROUP = Group([1, 20, 30, 40], [[50, 60, 2], [70, 2], [80, 90, 100, 110, 2]])


def saved(model, folder):
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(params=sorted(KINDS))
def eager_base(request, tmp_path):
    kind, config = KINDS[request.param]
    torch.manual_seed(1)
    return saved(kind(config(vocab_size=400, initializer_range=0.2, **SIZES)), tmp_path / request.param)


@torch.no_grad()
def test_attention_of_a_models_own_sees_in_a_packed_row_what_each_completion_sees_alone(eager_base):
    policy = load_policy(eager_base, dtype="float32", device="cpu")
    batch = pack([GROUP, Group([5], [[6]])], pad_id=policy.pad_id)
    packed = hidden_states(policy.model, (1, 2), **packed_inputs(batch, policy.model))
    plain = AutoModelForCausalLM.from_pretrained(eager_base, dtype=torch.float32).eval()
    for number, completion in enumerate(GROUP.completions):
        alone = plain(torch.tensor([GROUP.prompt_ids + completion]), output_hidden_states=True).hidden_states
        for layer, states in packed.items():
            own = states[batch.owner == number]
            torch.testing.assert_close(own, alone[layer][0, -len(completion) :], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_model_with_attention_of_its_own_is_sampled_from_as_it_writes(eager_base):
    policy = load_policy(eager_base, dtype="float32", device="cpu")._replace(stop_ids=frozenset({399}))
    prompts = [[1, 20, 30, 40], [7, 8]]
    samples = sample_ids(policy, prompts, settings=SamplingSettings(0.0, 1.0, 5), seeds=[1, 2])
    plain = AutoModelForCausalLM.from_pretrained(eager_base, dtype=torch.float32).eval()
    for prompt, sample in zip(prompts, samples, strict=True):
        for place, token in enumerate(sample.token_ids):
            assert token == int(plain(torch.tensor([prompt + sample.token_ids[:place]])).logits[0, -1].argmax())


def test_a_decoder_whose_masks_count_places_in_the_row_is_refused_by_name(tmp_path):
    config = GPTNeoConfig(
        vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
    )
    folder = saved(GPTNeoForCausalLM(config), tmp_path)
    with pytest.raises(UnsupportedModel, match=r"GPTNeoForCausalLM has an attention of its own \(eager\)"):
        load_policy(folder, dtype="float32", device="cpu")
