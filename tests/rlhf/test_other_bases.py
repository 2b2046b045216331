"""Bases unlike the default one: attention, templates and contexts of their own; read as they read alone, or refused."""

from __future__ import annotations

import argparse
import json

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    CodeGenConfig,
    CodeGenForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from tests.rlhf.run_folders import make_run, with_reward_model
from tests.rlhf.test_reward_training import write_run
from tests.tiny_models import make_tokenizer
from trainer.rlhf.config import RunConfig
from trainer.rlhf.corpus import cut_blocks
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
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.generate import run_generate
from trainer.rlhf.imitation import read_conversations
from trainer.rlhf.packing import Group, pack
from trainer.rlhf.policy import UnsupportedModel, load_policy
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.pretrain import run_pretrain
from trainer.rlhf.reward_features import group_of
from trainer.rlhf.reward_training import train_reward
from trainer.rlhf.rollout import SamplingSettings, sample_ids
from trainer.rlhf.score import run_score
from trainer.rlhf.scoring import load_scorer
from trainer.rlhf.sft import run_sft
from trainer.rlhf.trunk import hidden_states, packed_inputs, pooled_features

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


# As Qwen3 has it.
THOUGHTFUL = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if loop.last and message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_what_a_template_puts_before_the_last_answer_alone_is_no_rewriting(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.chat_template = THOUGHTFUL
    ids, is_assistant = encode_conversation(tokenizer, TURNS)
    learned = tokenizer.decode([token for token, mine in zip(ids, is_assistant, strict=True) if mine])
    assert learned == "Lovely.\n<|im_end|>Wet.<|im_end|>"


def test_a_demonstration_that_the_template_rewrites_is_named(gemma_like, tmp_path):
    tokenizer = load_tokenizer(gemma_like)
    tokenizer.chat_template = GEMMA_TEMPLATE.replace("{{ bos_token }}", "{{ messages|length }}")
    lines = [{"id": "short", "messages": TURNS[:2]}, {"id": "d7", "messages": TURNS}]
    (tmp_path / "demonstrations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ConversationError, match="demonstrations.jsonl, demonstration “d7”: the chat template rewrites"):
        read_conversations(RunFolder(tmp_path), tokenizer, max_tokens=99)


def begin_with_bos(tokenizer):
    """From here on it writes its BOS before every text, as that of Llama 3.2 or Mistral does."""
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])


@pytest.mark.parametrize("has_bos", [True, False])
def test_a_base_without_a_template_sees_its_bos_once_where_its_tokenizer_writes_one(tmp_path, has_bos):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    if has_bos:
        begin_with_bos(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    written = found.decode(encode_prompt(found, QUESTION, max_tokens=99))
    bos = found.bos_token if has_bos else ""
    assert written == f"{bos}User: What do you think about rain?\n\nAssistant: "


@pytest.mark.parametrize("template", [None, GEMMA_TEMPLATE])
def test_a_prompt_that_is_too_long_keeps_its_end_and_the_bos_its_tokenizer_writes(tmp_path, template):
    tokenizer = make_tokenizer()
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = template
    begin_with_bos(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    whole = encode_prompt(found, QUESTION, max_tokens=99)
    assert whole[0] == found.bos_token_id and found.bos_token_id not in whole[1:]
    for most in (len(whole) - 1, 5):
        assert encode_prompt(found, QUESTION, max_tokens=most) == [found.bos_token_id, *whole[1 - most :]]
    assert encode_prompt(found, QUESTION, max_tokens=1) == [found.bos_token_id]


@pytest.mark.parametrize(
    ("bos", "written"),
    [
        (None, "Rain.<|im_end|><|im_end|>Birds sing.<|im_end|>"),
        ("<|im_start|>", "<|im_start|>Rain.<|im_end|><|im_start|><|im_end|><|im_start|>Birds sing.<|im_end|>"),
        ("<|im_end|>", "<|im_end|>Rain.<|im_end|><|im_end|>Birds sing.<|im_end|>"),  # as OPT's, which is its EOS
    ],
)
def test_a_document_of_a_corpus_begins_with_bos_where_the_tokenizer_writes_one(tmp_path, bos, written):
    tokenizer = make_tokenizer()
    if bos is not None:
        tokenizer.bos_token = bos
        begin_with_bos(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    [block] = cut_blocks(["Rain.", "", "Birds sing."], tokenizer, 99)
    assert tokenizer.decode(block.input_ids) == written


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


def group_of_lengths(prompt: int, completion: int) -> Group:
    return Group([20 + place % 50 for place in range(prompt)], [[30 + place % 50 for place in range(completion)]])


def features_of(policy, group):
    return pooled_features(policy.model, [group], readings=[("mean", 2)], pad_id=policy.pad_id, max_tokens=999)


def test_roberta_counts_its_positions_from_its_padding_on(tmp_path):
    """34 positions, of which two stand before the first token's."""
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=400,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=34,
        pad_token_id=1,
    )
    folder = saved(RobertaForMaskedLM(config), tmp_path)
    policy = load_policy(folder, dtype="float32", device="cpu", can_be_encoder=True)
    features_of(policy, group_of_lengths(28, 4))
    with pytest.raises(StageError, match=r"reads 32 tokens at most \(max_position_embeddings\), and .* may have 33"):
        features_of(policy, group_of_lengths(28, 5))


def test_rotary_positions_end_too(tiny_base):
    policy = load_policy(tiny_base, dtype="float32", device="cpu")
    features_of(policy, group_of_lengths(506, 6))
    with pytest.raises(StageError, match="reads 512 tokens at most .* may have 513: lower max_prompt_tokens or"):
        features_of(policy, group_of_lengths(506, 7))


SMALL = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
}
WINDOWED = {
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=8)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SMALL, sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    ),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(WINDOWED))
def test_what_a_sliding_window_holds_is_read_as_ever_and_more_is_refused(kind, tmp_path):
    torch.manual_seed(1)
    folder = saved(WINDOWED[kind](), tmp_path)
    policy = load_policy(folder, dtype="float32", device="cpu")
    group = group_of_lengths(5, 3)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    alone = plain(torch.tensor([group.prompt_ids + group.completions[0]]), output_hidden_states=True).hidden_states[2]
    found = features_of(policy, group)["mean", 2]
    torch.testing.assert_close(found, alone[:, 5:].mean(1), rtol=1e-4, atol=1e-5)
    with pytest.raises(StageError, match=r"reads 8 tokens at most \(sliding_window\)"):
        features_of(policy, group_of_lengths(5, 4))


def test_a_window_that_no_layer_has_ends_nothing(tmp_path):
    sizes = {name: value for name, value in SMALL.items() if name != "head_dim"}
    config = Qwen2Config(**sizes, sliding_window=8, use_sliding_window=False)
    policy = load_policy(saved(Qwen2ForCausalLM(config), tmp_path), dtype="float32", device="cpu")
    features_of(policy, group_of_lengths(50, 40))


def test_a_reward_model_refuses_a_ranking_its_backbone_cannot_hold_before_it_reads_any(tiny_base, tiny_bert, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, reward={"backbone": str(tiny_bert), "layer": 1})
    path = run.path / "rankings.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1]["prompt"][0]["content"] = "Why? " * 200
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StageError, match="reads 128 tokens at most .*, and ranking “r23” may have"):
        train_reward(run)
    assert not (run.path / "reward" / "state").exists(), "nothing was read yet"


def test_ppo_refuses_a_prompt_its_base_cannot_hold_before_it_samples_any(tiny_gpt2, tmp_path):
    folder = make_run(tmp_path, tiny_gpt2)
    with (folder.path / "prompts.jsonl").open("a") as file:
        file.write(json.dumps({"id": "long", "messages": [{"role": "user", "content": "Why? " * 900}]}) + "\n")
    with pytest.raises(StageError, match="reads 512 tokens at most .* may have 518: lower max_prompt_tokens"):
        run_ppo(folder, StopSignal(), reward="tests.rlhf.rewards:has_e")
    assert not folder.log("ppo").records()
    with pytest.raises(StageError, match="reads 512 tokens at most .* may have 518: lower max_prompt_tokens"):
        main_generate(folder, tmp_path / "out.jsonl")


def main_generate(folder, out):
    chosen = {"base": True, "split": "train", "samples": 1, "temperature": 1.0, "top_p": 1.0, "seed": 1}
    run_generate(folder, StopSignal(), options=argparse.Namespace(**chosen, unranked=False, checkpoint=None, out=out))


def test_fine_tuning_and_pre_training_name_the_key_that_makes_examples_too_long(tiny_gpt2, tiny_bert, tmp_path):
    tuning = make_run(tmp_path / "sft", tiny_gpt2, sft={"max_tokens": 600})
    turns = [*QUESTION, {"role": "assistant", "content": "Why? " * 900}]
    (tuning.path / "demonstrations.jsonl").write_text(json.dumps({"id": "d", "messages": turns}))
    with pytest.raises(StageError, match="reads 512 tokens .* an example may have 600: lower sft.max_tokens"):
        run_sft(tuning, StopSignal())
    training = make_run(tmp_path / "pretrain", tiny_bert, pretrain={"block_tokens": 200})
    (training.path / "corpus.txt").write_text("Why? " * 900)
    with pytest.raises(StageError, match="reads 128 tokens .* an example may have 200: lower pretrain.block_tokens"):
        run_pretrain(training, StopSignal())
