"""Adapters on one base, and log-probs without a softmax kept, for Llama- and GPT-2-shaped models."""

import json
import os

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from tests.rlhf.run_folders import make_run, with_reward_model
from tests.tiny_models import make_llama
from trainer.rlhf.checkpoint import CheckpointError
from trainer.rlhf.config import LoraConfig
from trainer.rlhf.data import Prompt
from trainer.rlhf.experience import Actor, layouts, roll_out, rollout_logprobs
from trainer.rlhf.folder import StageError, StopSignal
from trainer.rlhf.logprobs import token_logprobs
from trainer.rlhf.policy import Policy, UnsupportedModel, load_policy, pick_dtype
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.rollout import SamplingSettings


@pytest.fixture(params=["tiny_base", "tiny_gpt2"])
def base(request):
    return request.getfixturevalue(request.param)


def with_adapter(base, seed: int = 1) -> Policy:
    policy = load_policy(base, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=3, alpha=6), seed=seed)
    for parameter in policy.adapter_parameters("policy").values():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(seed))
    policy.use_adapter("policy")
    return policy


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(20)[None]).logits


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft, of transformers
def test_it_saves_an_adapter_that_peft_and_it_itself_read_to_the_bit(base, tmp_path):
    policy = with_adapter(base)
    policy.save_adapter("policy", tmp_path / "adapter", {"seed": 1})
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    assert torch.equal(logits(theirs), logits(policy.model))
    again = load_policy(base, adapter=tmp_path / "adapter", dtype="float32", device="cpu")
    assert torch.equal(logits(again.model), logits(policy.model))


def change_adapter(path, **changes) -> None:
    """Another tool's adapter: other keys in the config, and no manifest of ours."""
    (path / "manifest.json").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | changes))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft, of transformers
def test_it_scales_an_rslora_adapter_as_peft_does_and_saves_it_so(base, tmp_path):
    with_adapter(base).save_adapter("policy", tmp_path / "rs", {})
    change_adapter(tmp_path / "rs", use_rslora=True)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "rs").eval()
    ours = load_policy(base, adapter=tmp_path / "rs", dtype="float32", device="cpu")
    torch.testing.assert_close(logits(ours.model), logits(theirs), atol=1e-5, rtol=1e-5)
    ours.save_adapter("policy", tmp_path / "again", {})
    again = load_policy(base, adapter=tmp_path / "again", dtype="float32", device="cpu")
    assert torch.equal(logits(again.model), logits(ours.model))


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")  # peft: an adapter of IA3 has no rank
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha_pattern": {"q_proj": 32}}, "has alpha_pattern {'q_proj': 32}, which"),
        ({"rank_pattern": {"q_proj": 8}}, "has rank_pattern"),
        ({"use_dora": True, "bias": "all"}, "has use_dora True, bias 'all', which"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights 'pissa'"),
        ({"modules_to_save": ["lm_head"]}, "has modules_to_save"),
        ({"peft_type": "IA3"}, "is of type IA3: only LoRA can be read"),
    ],
)
def test_it_refuses_by_name_what_it_would_read_wrongly(tiny_base, tmp_path, change, words):
    with_adapter(tiny_base).save_adapter("policy", tmp_path / "odd", {})
    change_adapter(tmp_path / "odd", **change)
    with pytest.raises(CheckpointError, match=words):
        load_policy(tiny_base, adapter=tmp_path / "odd", dtype="float32", device="cpu")


def test_it_holds_several_adapters_and_the_base_in_one_model(base, tmp_path):
    policy = with_adapter(base)
    policy.save_adapter("policy", tmp_path / "one", {})
    bare = logits(load_policy(base, dtype="float32", device="cpu").model)
    policy.add_adapter("incumbent", tmp_path / "one")
    policy.copy_adapter("policy", "copy")
    first = logits(policy.model)
    with torch.no_grad():
        next(iter(policy.adapter_parameters("policy").values())).mul_(3)
    assert not torch.equal(logits(policy.model), first)
    for name in ("incumbent", "copy"):
        policy.use_adapter(name)
        assert torch.equal(logits(policy.model), first)
    policy.use_adapter(None)
    assert torch.equal(logits(policy.model), bare)
    policy.remove_adapter("copy")
    assert policy.adapters() == ["incumbent", "policy"]
    with pytest.raises(KeyError, match="no adapter is called 'copy'"):
        policy.use_adapter("copy")


@pytest.fixture
def foreign(base, tmp_path):
    """An adapter as another tool writes it: on the attention alone."""
    names = ["q_proj", "v_proj"] if "llama" in base.name else ["c_attn"]
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=2, target_modules=names, fan_in_fan_out=names == ["c_attn"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(tmp_path / "foreign")
    return tmp_path / "foreign"


def modules_of(parameters) -> set[str]:
    return {name.removeprefix("base_model.model.").rsplit(".", 2)[0] for name in parameters}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft, of transformers
def test_an_adapter_on_some_layers_lies_beside_others_on_all(base, foreign, tmp_path):
    policy = load_policy(base, adapter=foreign, dtype="float32", device="cpu")
    before = logits(policy.model)
    plain = AutoModelForCausalLM.from_pretrained(base)
    linear = {
        name
        for name, module in plain.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and name != "lm_head"
    }
    policy.new_adapter("critic", LoraConfig(r=3), seed=1)
    policy.copy_adapter("policy", "parent")
    assert policy.active_adapter == "policy" and torch.equal(logits(policy.model), before)
    assert modules_of(policy.adapter_parameters("critic")) == linear, "a new one lies on every linear layer"
    theirs = load_file(foreign / "adapter_model.safetensors").keys()
    assert theirs == policy.adapter_parameters("policy").keys() == policy.adapter_parameters("parent").keys()
    with policy.merged():
        torch.testing.assert_close(logits(policy.model), before, atol=1e-5, rtol=1e-4)
    assert torch.equal(logits(policy.model), before)
    policy.save_adapter("policy", tmp_path / "saved", {})
    again = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "saved").eval()
    assert torch.equal(logits(again), before)
    policy.use_adapter("parent")
    assert torch.equal(logits(policy.model), before)
    policy.remove_adapter("parent")
    policy.use_adapter(None)
    torch.testing.assert_close(logits(policy.model), logits(plain), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft, of transformers
def test_ppo_goes_on_from_another_tools_adapter_beside_a_reward_model_on_one_of_its_own(base, foreign, tmp_path):
    folder = make_run(tmp_path / "run", base, parent=str(foreign), ppo={"updates": 1, "critic": {"kind": "adapter"}})
    with_reward_model(folder, base, kind="lora")
    run_ppo(folder, StopSignal())
    learned = load_file(folder.path / "ppo" / "policy" / "adapter_model.safetensors")
    before = load_file(foreign / "adapter_model.safetensors")
    assert learned.keys() == before.keys() and any(not torch.equal(learned[name], before[name]) for name in before)


def test_it_refuses_an_adapter_on_the_output_layer(tiny_base, tmp_path):
    policy = with_adapter(tiny_base)
    policy.save_adapter("policy", tmp_path / "odd", {})
    change_adapter(tmp_path / "odd")
    tensors = load_file(tmp_path / "odd" / "adapter_model.safetensors")
    words, size = policy.head.weight.shape
    for part, shape in {"lora_A": (3, size), "lora_B": (words, 3)}.items():
        tensors[f"base_model.model.lm_head.{part}.weight"] = torch.ones(shape)
    save_file(tensors, tmp_path / "odd" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="changes the output layer"):
        load_policy(tiny_base, adapter=tmp_path / "odd", dtype="float32", device="cpu")


def test_it_trains_the_active_adapter_only(base):
    policy = with_adapter(base)
    policy.new_adapter("critic", LoraConfig(r=2), seed=3)
    policy.use_adapter("policy")
    policy.model(torch.arange(9)[None]).logits.sum().backward()
    touched = {name for name, parameter in policy.model.named_parameters() if parameter.grad is not None}
    assert touched
    assert all(".policy." in name for name in touched)


def test_a_fresh_adapter_changes_nothing(base):
    policy = load_policy(base, dtype="float32", device="cpu")
    bare = logits(policy.model)
    policy.new_adapter("policy", LoraConfig(r=4), seed=1)
    policy.use_adapter("policy")
    assert torch.equal(logits(policy.model), bare)


def test_it_folds_the_adapter_in_and_puts_the_very_same_weights_back(base):
    policy = with_adapter(base)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    expected = logits(policy.model)
    with policy.merged():
        torch.testing.assert_close(logits(policy.model), expected, atol=1e-5, rtol=1e-4)
        changed = [name for name, value in policy.model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    assert torch.equal(logits(policy.model), expected)


def test_a_merge_that_fails_half_way_puts_the_weights_back(base):
    policy = with_adapter(base)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    expected = logits(policy.model)
    last = [module for module in policy.model.modules() if hasattr(module, "get_delta_weight")][-1]

    def out_of_memory(_adapter):
        raise MemoryError

    last.get_delta_weight = out_of_memory
    with pytest.raises(MemoryError), policy.merged():
        pass
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    assert torch.equal(logits(policy.model), expected), "the adapter is active again"


@pytest.mark.parametrize("is_alone", [True, False])
def test_an_adapter_that_does_not_fit_leaves_no_name_behind(base, tmp_path, is_alone):
    with_adapter(base).save_adapter("policy", tmp_path / "a", {})
    good = tmp_path / "a" / "adapter_model.safetensors"
    whole = load_file(good)
    save_file(whole | {max(whole): torch.zeros(3, 5)}, good)
    (tmp_path / "a" / "manifest.json").unlink()
    policy = load_policy(base, dtype="float32", device="cpu") if is_alone else with_adapter(base)
    expected, names, active = logits(policy.model), policy.adapters(), policy.active_adapter
    with pytest.raises(RuntimeError, match="size of tensor"):
        policy.add_adapter("other", tmp_path / "a")
    assert (policy.adapters(), policy.active_adapter) == (names, active)
    assert torch.equal(logits(policy.model), expected)
    save_file(whole, good)
    policy.add_adapter("other", tmp_path / "a")
    assert policy.adapters() == sorted([*names, "other"])


def test_it_refuses_an_adapter_whose_file_has_changed(base, tmp_path):
    with_adapter(base).save_adapter("policy", tmp_path / "a", {})
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    save_file({name: value + 1 for name, value in tensors.items()}, tmp_path / "a" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="adapter_model.safetensors is not the file"):
        load_policy(base, adapter=tmp_path / "a", dtype="float32")


def test_it_loads_full_weights_in_the_place_of_the_base(base, tmp_path):
    policy = load_policy(base, dtype="float32", device="cpu")
    with torch.no_grad():
        next(policy.model.parameters()).mul_(1.5)
    policy.save_weights(tmp_path / "full", {"seed": 1})
    again = load_policy(base, adapter=tmp_path / "full", dtype="float32", device="cpu")
    assert torch.equal(logits(again.model), logits(policy.model))
    assert json.loads((tmp_path / "full" / "manifest.json").read_text())["seed"] == 1


def test_it_refuses_models_that_change_their_logits_afterwards(tiny_base, monkeypatch):
    from transformers import LlamaConfig

    monkeypatch.setattr(LlamaConfig, "final_logit_softcapping", 30.0, raising=False)
    with pytest.raises(UnsupportedModel, match="final_logit_softcapping"):
        load_policy(tiny_base, dtype="float32", device="cpu")


def test_it_takes_the_dtype_it_is_told():
    assert pick_dtype("float32", torch.device("cpu")) is torch.float32
    assert pick_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16


@pytest.mark.parametrize(
    ("device", "has", "dtype"),
    [
        ("cpu", set(), torch.float32),
        ("cpu", {"avx512_bf16"}, torch.bfloat16),
        ("cpu", {"amx"}, torch.bfloat16),
        ("cpu", {"cuda"}, torch.float32),
        ("cuda", {"cuda"}, torch.bfloat16),
        ("cuda", {"emulation", "avx512_bf16"}, torch.float32),
        ("mps", {"cuda", "avx512_bf16"}, torch.float32),
    ],
)
def test_auto_is_bf16_where_the_device_itself_multiplies_it(monkeypatch, device, has, dtype):
    def on_cuda(including_emulation=True):
        return "cuda" in has or (including_emulation and "emulation" in has)

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: "avx512_bf16" in has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: "amx" in has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", on_cuda)
    assert pick_dtype("auto", torch.device(device)) is dtype


@pytest.mark.parametrize("is_head_trained", [False, True])
def test_its_logprobs_entropies_and_gradients_are_those_of_a_whole_softmax(is_head_trained, monkeypatch):
    monkeypatch.setattr("trainer.rlhf.logprobs.CHUNK", 3)
    generator = torch.Generator().manual_seed(1)
    head = torch.nn.Linear(6, 11).requires_grad_(is_head_trained)
    states = torch.randn(7, 6, generator=generator, requires_grad=True)
    targets = torch.randint(0, 11, (7,), generator=generator)
    weights = torch.randn(7, generator=generator)

    found = token_logprobs(states, head, targets, temperature=0.7)
    (found.logprobs * weights).sum().backward()
    gradient, states.grad = states.grad, None
    head_gradient = head.weight.grad.clone() if is_head_trained else None
    head.zero_grad()

    whole = (head(states) / 0.7).log_softmax(-1)
    (whole[torch.arange(7), targets] * weights).sum().backward()
    torch.testing.assert_close(found.logprobs, whole[torch.arange(7), targets])
    torch.testing.assert_close(found.entropy, torch.distributions.Categorical(logits=whole).entropy())
    torch.testing.assert_close(gradient, states.grad)
    if is_head_trained:
        torch.testing.assert_close(head_gradient, head.weight.grad)


def test_its_entropy_has_a_gradient_where_it_is_asked_for():
    head = torch.nn.Linear(4, 5).requires_grad_(False)
    states = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    found = token_logprobs(states, head, torch.tensor([0, 1, 2]), has_entropy_gradient=True)
    (gradient,) = torch.autograd.grad(found.entropy.sum(), states)
    (expected,) = torch.autograd.grad(torch.distributions.Categorical(logits=head(states)).entropy().sum(), states)
    torch.testing.assert_close(gradient, expected)


def test_packed_logprobs_are_those_of_each_completion_alone(base):
    policy = with_adapter(base)
    actor = Actor(policy, "policy")
    prompts = [Prompt(str(n), [{"role": "user", "content": "x"}]) for n in range(3)]
    ids = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16, 17]]
    settings = SamplingSettings(0.8, 1.0, 8)
    rollout = roll_out(actor, prompts, ids, samples=3, seeds=range(9), settings=settings)
    packed = rollout_logprobs(actor, rollout, temperature=0.8, max_tokens=60)
    for row, sample in enumerate(rollout.samples):
        prompt, length = ids[row // 3], len(sample.token_ids)
        with torch.no_grad():
            alone = policy.model(torch.tensor([prompt + sample.token_ids])).logits[0, len(prompt) - 1 : -1] / 0.8
        expected = alone.log_softmax(-1).gather(1, torch.tensor(sample.token_ids)[:, None])[:, 0]
        torch.testing.assert_close(packed[row, :length], expected, atol=1e-5, rtol=1e-4)
        assert not packed[row, length:].any()
    torch.testing.assert_close(packed, rollout.logprobs, atol=1e-4, rtol=1e-4)


def test_layouts_hold_every_row_once_within_the_token_limit(base):
    policy = load_policy(base, dtype="float32", device="cpu")
    prompts = [Prompt(str(n), [{"role": "user", "content": "x"}]) for n in range(5)]
    ids = [[5] * (3 + 4 * n) for n in range(5)]
    settings = SamplingSettings(1.0, 1.0, 6)
    rollout = roll_out(Actor(policy, None), prompts, ids, samples=2, seeds=range(10), settings=settings)
    parts = list(layouts(rollout, [0, 2, 4], pad_id=policy.pad_id, max_tokens=45))
    assert sorted(row for part in parts for row in part.rows.tolist()) == [0, 1, 4, 5, 8, 9]
    assert len(parts) > 1
    assert all(part.batch.input_ids.numel() <= 45 for part in parts)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda base: [file.unlink() for file in base.glob("token*")], "the tokenizer in .* cannot be read: "),
        (lambda base: os.truncate(base / "model.safetensors", 3000), "the weights in .* cannot be read: "),
    ],
    ids=["no tokenizer", "half of the weights"],
)
def test_it_says_which_part_of_a_base_cannot_be_read(tmp_path, break_it, words):
    base = make_llama(tmp_path)
    break_it(base)
    with pytest.raises(StageError, match=words):
        load_policy(base, dtype="float32")


def test_it_refuses_a_tokenizer_by_which_no_completion_ends(tmp_path):
    base = make_llama(tmp_path)
    path = base / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in settings.items() if name != "eos_token"}))
    (base / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(StageError, match="has no EOS, by which a completion ends: set its eos_token"):
        load_policy(base, dtype="float32")
