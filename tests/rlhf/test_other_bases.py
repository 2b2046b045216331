"""Bases unlike the default one: attention, templates and contexts of their own; read as they read alone, or refused."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    CodeGenConfig,
    CodeGenForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
)

from tests.rlhf.run_folders import make_run, with_reward_model
from tests.tiny_models import make_tokenizer
from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import Prompt, parse_ranking
from trainer.rlhf.encoding import (
    ConversationError,
    encode_completion,
    encode_conversation,
    encode_prompt,
    load_tokenizer,
)
from trainer.rlhf.evaluation import write_and_measure
from trainer.rlhf.experience import Actor
from trainer.rlhf.folder import RunFolder, StopSignal
from trainer.rlhf.imitation import read_conversations
from trainer.rlhf.packing import Group, pack
from trainer.rlhf.policy import UnsupportedModel, load_policy
from trainer.rlhf.reward_features import group_of
from trainer.rlhf.rollout import SamplingSettings, sample_ids
from trainer.rlhf.score import run_score
from trainer.rlhf.scoring import load_scorer
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


GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "<start_of_turn>{{ role }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QUESTION = [{"role": "user", "content": "What do you think about rain?"}]
TURNS = [*QUESTION, {"role": "assistant", "content": "Lovely.\n"}, *QUESTION, {"role": "assistant", "content": "Wet."}]


@pytest.fixture
def gemma_like(tiny_base, tmp_path):
    """A base whose template ends turns with a token of its own, strips answers, and whose EOS stands nowhere in it."""
    policy = load_policy(tiny_base, dtype="float32", device="cpu")
    tokenizer = policy.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    tokenizer.chat_template = GEMMA_TEMPLATE
    policy.model.resize_token_embeddings(len(tokenizer))
    policy.save_weights(tmp_path / "gemma-like", {})
    return tmp_path / "gemma-like"


def test_a_turn_ends_as_the_template_ends_it_wherever_its_ids_come_from(gemma_like):
    policy = load_policy(gemma_like, dtype="float32", device="cpu")
    tokenizer = policy.tokenizer
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    assert end != tokenizer.eos_token_id and policy.stop_ids == {end, tokenizer.eos_token_id}
    assert encode_completion(tokenizer, "Wet.", max_tokens=99)[-1] == end
    ids, is_assistant = encode_conversation(tokenizer, TURNS)
    learned = tokenizer.decode([token for token, mine in zip(ids, is_assistant, strict=True) if mine])
    assert learned == "Lovely.\n<end_of_turn>Wet.<end_of_turn>"
    around = tokenizer.decode([token for token, mine in zip(ids, is_assistant, strict=True) if not mine])
    user = "<start_of_turn>user\nWhat do you think about rain?<end_of_turn>\n<start_of_turn>model\n"
    assert around == f"{tokenizer.bos_token}{user}\n{user}"


def test_a_turn_ends_with_eos_where_the_template_writes_no_token_there(tiny_gpt2, tmp_path):
    tokenizer = load_tokenizer(tiny_gpt2)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    plain = load_tokenizer(tmp_path)
    ids, is_assistant = encode_conversation(plain, TURNS)
    user = "User: What do you think about rain?\n\nAssistant: "
    assert plain.decode(ids) == f"{user}Lovely.\n<|im_end|>\n\n\n{user}Wet.<|im_end|>"
    assert sum(is_assistant) == len(encode_completion(plain, "Lovely.\n", max_tokens=99)) + len(
        encode_completion(plain, "Wet.", max_tokens=99)
    )


def test_a_demonstration_that_the_template_rewrites_is_named(gemma_like, tmp_path):
    tokenizer = load_tokenizer(gemma_like)
    tokenizer.chat_template = GEMMA_TEMPLATE.replace("{{ bos_token }}", "{{ messages|length }}")
    lines = [{"id": "short", "messages": TURNS[:2]}, {"id": "d7", "messages": TURNS}]
    (tmp_path / "demonstrations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConversationError, match="demonstrations.jsonl, demonstration “d7”: the chat template rewrites"):
        read_conversations(RunFolder(tmp_path), tokenizer, max_tokens=99)


@pytest.mark.parametrize("has_bos", [True, False])
def test_a_base_without_a_template_sees_its_bos_once_where_its_tokenizer_writes_one(tmp_path, has_bos):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    if has_bos:
        bos = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    written = found.decode(encode_prompt(found, QUESTION, max_tokens=99))
    bos = found.bos_token if has_bos else ""
    assert written == f"{bos}User: What do you think about rain?\n\nAssistant: "


STRICT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
SYSTEM = [{"role": "system", "content": "Be brief. " * 9}, *QUESTION]
REFUSAL = f"the chat template refuses what begins “{'Be brief. ' * 6}”: System role not supported"


def test_a_conversation_that_the_template_refuses_is_named(gemma_like, tmp_path):
    policy = load_policy(gemma_like, dtype="float32", device="cpu")
    policy.tokenizer.chat_template = STRICT + GEMMA_TEMPLATE
    with pytest.raises(ConversationError, match=f"^{REFUSAL}"):
        encode_prompt(policy.tokenizer, SYSTEM, max_tokens=99)
    ranking = {"id": "r5", "prompt": SYSTEM, "completions": [{"text": "a"}, {"text": "b"}], "ranks": [1, 2]}
    with pytest.raises(ConversationError, match=f"^ranking “r5”: {REFUSAL}"):
        group_of(parse_ranking(ranking, "line 1"), policy, RunConfig(base_model="x"))
    demonstration = {"id": "d1", "messages": [*SYSTEM, {"role": "assistant", "content": "Wet."}]}
    (tmp_path / "demonstrations.jsonl").write_text(json.dumps(demonstration))
    with pytest.raises(ConversationError, match=f"demonstration “d1”: {REFUSAL}"):
        read_conversations(RunFolder(tmp_path), policy.tokenizer, max_tokens=99)


def test_evaluate_and_score_say_which_conversation_the_template_refuses(tiny_base, tmp_path):
    base = load_policy(tiny_base, dtype="float32", device="cpu")
    base.tokenizer.chat_template = STRICT + base.tokenizer.chat_template
    base.save_weights(tmp_path / "strict", {})
    folder = make_run(tmp_path / "run", tmp_path / "strict")
    with_reward_model(folder, tmp_path / "strict")
    config = folder.config
    prompt = Prompt("p3", SYSTEM)
    scorer = load_scorer(folder, None, base=base)
    with pytest.raises(ConversationError, match=f"^prompt “p3”: {REFUSAL}"):
        write_and_measure(Actor(base, None), [prompt], 0, base, scorer, config)
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "c9", "prompt": SYSTEM, "text": "Wet."}))
    with pytest.raises(ConversationError, match=f"^in.jsonl, “c9”: {REFUSAL}"):
        run_score(folder, StopSignal(), completions=tmp_path / "in.jsonl", out=tmp_path / "out.jsonl")
