"""Sampling: seeds, distributions, stops, and log-probs that are those of the policy that sampled."""

import collections
from functools import partial

import pytest
import torch

from trainer.rlhf.config import LoraConfig
from trainer.rlhf.encoding import encode_prompt
from trainer.rlhf.policy import Policy, load_policy
from trainer.rlhf.rollout import SamplingSettings, choose, derived_seed, sample_ids, uniform
from trainer.rlhf.rollout import sample as sample_from

PROMPTS = [
    [{"role": "user", "content": text}]
    for text in ("Write about rain.", "A fox?", "What do you think about the train?")
]
sample = partial(sample_from, max_prompt_tokens=1024)
SETTINGS = SamplingSettings(temperature=0.7, top_p=1.0, max_new_tokens=9)


@pytest.fixture(params=["tiny_base", "tiny_gpt2"])
def policy(request) -> Policy:
    return load_policy(request.getfixturevalue(request.param), dtype="float32", device="cpu")


def direct_logprobs(policy: Policy, prompt: list[int], completion: list[int], temperature: float) -> torch.Tensor:
    """One row, no padding, no cache: log softmax(z / T) of each completion token."""
    with torch.no_grad():
        logits = policy.model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]


def test_it_writes_the_same_completion_for_a_seed_in_any_batch(policy):
    together = sample(policy, [prompt for prompt in PROMPTS for _ in range(3)], settings=SETTINGS, seeds=range(9))
    for row in (0, 4, 8):
        alone = sample(policy, [PROMPTS[row // 3]], settings=SETTINGS, seeds=[row])[0]
        assert alone.token_ids == together[row].token_ids
        torch.testing.assert_close(torch.tensor(alone.logprobs), torch.tensor(together[row].logprobs))


def test_it_writes_different_completions_for_different_seeds(policy):
    drawn = sample(policy, [PROMPTS[0]] * 8, settings=SETTINGS, seeds=range(8))
    assert len({tuple(one.token_ids) for one in drawn}) == 8


def test_its_logprobs_are_those_of_the_sampling_temperature(policy):
    drawn = sample(policy, PROMPTS, settings=SETTINGS, seeds=[1, 2, 3])
    for messages, one in zip(PROMPTS, drawn, strict=True):
        prompt = encode_prompt(policy.tokenizer, messages, max_tokens=100)
        expected = direct_logprobs(policy, prompt, one.token_ids, SETTINGS.temperature)
        torch.testing.assert_close(torch.tensor(one.logprobs), expected, atol=1e-5, rtol=1e-4)


def test_it_takes_the_likeliest_tokens_at_temperature_zero(policy):
    prompt = encode_prompt(policy.tokenizer, PROMPTS[0], max_tokens=100)
    greedy = []
    while len(greedy) < 9 and not (greedy and greedy[-1] in policy.stop_ids):
        with torch.no_grad():
            greedy.append(int(policy.model(torch.tensor([prompt + greedy])).logits[0, -1].argmax()))
    assert sample(policy, PROMPTS[:1], settings=SamplingSettings(0, 1.0, 9), seeds=[5])[0].token_ids == greedy


def test_it_stops_at_any_stop_id_and_never_decodes_past_it(policy):
    usual = sample(policy, PROMPTS * 6, settings=SETTINGS, seeds=range(18))
    common = collections.Counter(token for one in usual for token in one.token_ids).most_common(12)
    impatient = policy._replace(stop_ids=policy.stop_ids | {token for token, _ in common})
    stopped = sample(impatient, PROMPTS * 6, settings=SETTINGS, seeds=range(18))
    assert {one.finish_reason for one in stopped} == {"stop", "length"}
    for before, after in zip(usual, stopped, strict=True):
        places = [place for place, token in enumerate(before.token_ids) if token in impatient.stop_ids]
        end = places[0] + 1 if places else len(before.token_ids)
        assert after.token_ids == before.token_ids[:end]
        assert after.finish_reason == ("stop" if places else "length")


def test_it_does_not_take_the_ends_of_turns_inside_the_prompt_for_its_own(policy):
    prompt = [*encode_prompt(policy.tokenizer, PROMPTS[0], max_tokens=100), policy.tokenizer.eos_token_id]
    drawn = sample_ids(policy, [prompt, prompt[:5]], settings=SETTINGS, seeds=[1, 2])
    expected = direct_logprobs(policy, prompt, drawn[0].token_ids, SETTINGS.temperature)
    torch.testing.assert_close(torch.tensor(drawn[0].logprobs), expected, atol=1e-5, rtol=1e-4)


def test_it_samples_from_the_active_adapter(tiny_base):
    policy = load_policy(tiny_base, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=4), seed=1)
    for parameter in policy.adapter_parameters("policy").values():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(2))
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    base = sample(policy, PROMPTS, settings=SETTINGS, seeds=[1, 2, 3])
    policy.use_adapter("policy")
    drawn = sample(policy, PROMPTS, settings=SETTINGS, seeds=[1, 2, 3])
    assert [one.token_ids for one in drawn] != [one.token_ids for one in base]
    for messages, one in zip(PROMPTS, drawn, strict=True):
        prompt = encode_prompt(policy.tokenizer, messages, max_tokens=100)
        expected = direct_logprobs(policy, prompt, one.token_ids, SETTINGS.temperature)
        torch.testing.assert_close(torch.tensor(one.logprobs), expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())


def test_it_draws_tokens_as_often_as_they_are_likely():
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0]])
    noise = torch.tensor([uniform(7, counter) for counter in range(20_000)], dtype=torch.float64)
    tokens, logprobs = choose(logits.expand(20_000, 4), noise, SamplingSettings(temperature=2.0))
    expected = (logits[0] / 2).softmax(0)
    torch.testing.assert_close(torch.bincount(tokens, minlength=4) / 20_000, expected, atol=0.012, rtol=0)
    torch.testing.assert_close(logprobs, expected.log()[tokens])


def test_it_never_draws_a_token_outside_the_nucleus_or_of_no_probability():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, float("-inf")]])  # 0.64, 0.24, 0.09, 0.03, 0
    noise = torch.tensor([0.0, 0.3, 0.7, 0.999, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = choose(logits.expand(5, 5), noise, SamplingSettings(top_p=0.8))
    assert tokens.tolist() == [0, 0, 0, 1, 1]
    torch.testing.assert_close(logprobs, logits[0].log_softmax(0)[tokens])
    assert choose(logits, noise[-1:], SamplingSettings())[0].tolist() == [3]


def test_its_noise_is_uniform_and_a_function_of_seed_and_counter():
    draws = torch.tensor([uniform(seed, counter) for seed in range(100) for counter in range(100)])
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(draws.var()) == pytest.approx(1 / 12, abs=0.002)
    assert len(set(draws.tolist())) > 9_990
    assert uniform(3, 4) == uniform(3, 4) != uniform(4, 3)
    assert len({derived_seed(1, a, b) for a in range(50) for b in range(50)}) == 2500


def test_it_asks_for_one_seed_a_prompt(policy):
    with pytest.raises(ValueError, match="3 prompts but 1 seeds"):
        sample(policy, PROMPTS, settings=SETTINGS, seeds=[1])
