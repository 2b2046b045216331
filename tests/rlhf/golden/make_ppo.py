"""Golden numbers of PPO, out of TRL's own trainer: `ppo.json`, `ppo.safetensors`, the models in `base/`, `adapter/`.

    python -m venv .venv-trl112
    .venv-trl112/bin/pip install torch==2.13.0 trl==1.12.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 \
        peft==0.21.2
    .venv-trl112/bin/python -m tests.rlhf.golden.make_ppo

TRL 1.12 is the last with a PPO trainer; `make bench-ppo` makes the same environment. Nothing of TRL is written again
here: `PPOTrainer.train()` runs one update as it is. Each number is read out of that function's own local variables, in
the two places where it calls something of ours: `accelerator.backward` and a callback at the end of the update.

The runs:
    ends      some completions end by themselves, some are cut; two epochs of two minibatches
    cut       no stop token, so that all are cut and TRL's place for the score is ours; one step
    options   reward whitening, k3, the penalty for a missing EOS, a stop id of its own, micro-batches, gamma < 1
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer
from trl.experimental.ppo.ppo_trainer import first_true_indices, masked_whiten, truncate_response

from tests.rlhf.golden.exact_json import as_json
from tests.tiny_models import make_tokenizer

FOLDER = Path(__file__).parent
PAD, EOS, STOP = 0, 2, 15  # TRL finds ends by looking for the pad id, which must therefore not be EOS
PROMPTS = [
    [1, 20, 30, 40],
    [1, 21, EOS, 1, 22],  # a turn ends inside the prompt
    [1, 33],
    [1, 50, 51, 52, 53, 54, 55],
    [1, 8, 17, EOS],
    [1, 60, 61],
    [1, 12, 45, 12, 45, 12],
    [1, 29, 38, 47],
]
COMMON = {
    "per_device_train_batch_size": len(PROMPTS),
    "total_episodes": len(PROMPTS),
    "local_rollout_forward_batch_size": 5,  # two unequal parts
    "response_length": 9,
    "temperature": 0.7,
    "learning_rate": 0.01,
    "optim": "adamw_torch",
    "adam_epsilon": 1e-5,
    "weight_decay": 0.0,
    "num_sample_generations": 0,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
}
RUNS = {
    "ends": {
        "seed": 1,
        "stop_token": "eos",
        "num_ppo_epochs": 2,
        "num_mini_batches": 2,
        "kl_coef": 0.1,
        "vf_coef": 0.3,
    },
    "cut": {"seed": 2, "num_ppo_epochs": 1, "num_mini_batches": 1, "kl_coef": 0.1, "lam": 0.9},
    "options": {
        "seed": 3,
        "stop_token_id": STOP,
        "num_ppo_epochs": 1,
        "num_mini_batches": 1,
        "per_device_train_batch_size": len(PROMPTS) // 2,
        "gradient_accumulation_steps": 2,
        "temperature": 1.0,
        "kl_coef": 0.2,
        "kl_estimator": "k3",
        "whiten_rewards": True,
        "missing_eos_penalty": 1.5,
        "gamma": 0.97,
        "lam": 0.9,
    },
}
ROLLOUT = ("logprobs", "ref_logprobs", "values", "scores", "rewards", "advantages", "returns")
STATS = ("pg_loss", "vf_loss", "pg_clipfrac", "vf_clipfrac", "approxkl", "entropy", "ratio")
METRICS = ("objective/kl", "objective/entropy", "objective/non_score_reward", "objective/scores", "val/num_eos_tokens")


def main() -> None:
    assert version("trl") == "1.12.0", version("trl")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    reward_weight, value_weight = make_models()
    record: dict[str, Any] = {
        "versions": {name: version(name) for name in ("trl", "torch", "transformers", "accelerate", "peft")}
        | {"python": platform.python_version()},
        "pad": PAD,
        "eos": EOS,
        "reward_weight": reward_weight.tolist(),
        "value_weight": value_weight.tolist(),
        "runs": {},
    }
    tensors: dict[str, torch.Tensor] = {}
    for name, settings in RUNS.items():
        run, kept = golden_run(COMMON | settings, reward_weight, value_weight)
        record["runs"][name] = {"settings": COMMON | settings} | run
        tensors |= {f"{name}.{key}": value for key, value in kept.items()}
    record["functions"] = golden_functions(record["runs"]["ends"])
    (FOLDER / "ppo.json").write_text(as_json(record))
    save_file(tensors, FOLDER / "ppo.safetensors")


def make_models() -> tuple[torch.Tensor, torch.Tensor]:
    """Writes the base and the policy's adapter; weights of the reward model's head and of the critic's."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # a dimension that is large for every token: ends are likely, a sampled pad is not
        model.model.embed_tokens.weight[:, 0] = 2
        for layer in model.model.layers:
            layer.input_layernorm.weight[0] = layer.post_attention_layernorm.weight[0] = 0
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0
        model.lm_head.weight[:, 0] = 0
        model.lm_head.weight[PAD, 0], model.lm_head.weight[EOS, 0] = -8, 0.8
    model.save_pretrained(FOLDER / "base")
    lora = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    policy = get_peft_model(model, lora)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:  # zeros at first: the policy would be its reference
            torch.nn.init.normal_(parameter, std=0.3)
    policy.save_pretrained(FOLDER / "adapter")
    (FOLDER / "adapter" / "README.md").unlink(missing_ok=True)
    path = FOLDER / "adapter" / "adapter_config.json"
    facts = {name: value for name, value in json.loads(path.read_text()).items() if value not in (None, {}, [])}
    path.write_text(as_json(facts | {"target_modules": sorted(facts["target_modules"])}))
    return torch.randn(2, config.hidden_size).mul_(0.4).unbind()


def golden_run(
    settings: dict[str, Any], reward_weight: torch.Tensor, value_weight: torch.Tensor
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """One update of TRL's PPO: what it computed, and the gradients and trained weights as tensors."""
    transformers.set_seed(settings["seed"])  # TRL deals minibatches by numpy's generator, which it does not seed
    base = LlamaForCausalLM.from_pretrained(FOLDER / "base")
    policy = PeftModel.from_pretrained(base, FOLDER / "adapter", is_trainable=True)
    value_model = classifier(value_weight)
    tokenizer = make_tokenizer()
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.unk_token
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, EOS)
    found: dict[str, Any] = {"steps": []}
    kept: dict[str, torch.Tensor] = {}

    class AtTheEnd(TrainerCallback):
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            found.update(rollout_of(locals_of_train()))

    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(output_dir=folder, **settings),
            processing_class=tokenizer,
            model=policy,
            ref_model=None,  # the policy without its adapter
            reward_model=classifier(reward_weight),
            value_model=value_model,
            train_dataset=Dataset.from_list([{"input_ids": prompt} for prompt in PROMPTS * 2]),
            callbacks=[AtTheEnd()],
        )
        backward = trainer.accelerator.backward

        def recorded(loss: torch.Tensor) -> None:
            backward(loss)
            found["steps"].append(step_of(locals_of_train()))
            number = len(found["steps"])
            for name, gradient in adapter_gradients(policy).items():
                kept[f"{number}.policy.{name}"] = gradient
            kept[f"{number}.value.head"] = value_model.score.weight.grad[0].clone()
            found["steps"][-1]["value_trunk_grad_norm"] = trunk_gradient_norm(value_model)

        trainer.accelerator.backward = recorded
        trainer.train()
    for name, parameter in policy.named_parameters():
        if "lora" in name:
            kept[f"after.policy.{peft_name(name)}"] = parameter.detach().clone()
    kept["after.value.head"] = value_model.score.weight.detach()[0].clone()
    return found, kept


def classifier(weight: torch.Tensor) -> LlamaForSequenceClassification:
    model = LlamaForSequenceClassification.from_pretrained(FOLDER / "base", num_labels=1)
    model.config.pad_token_id = PAD
    with torch.no_grad():
        model.score.weight.copy_(weight[None])
    return model


def locals_of_train() -> dict[str, Any]:
    """The local variables of the `PPOTrainer.train` that is running."""
    frame = sys._getframe()
    while frame.f_code is not PPOTrainer.train.__code__:
        frame = frame.f_back
    return frame.f_locals


def rollout_of(train: dict[str, Any]) -> dict[str, Any]:
    """Prompts, completions and all that was computed of them before the first step; TRL's padded grids as they are."""
    lengths = (train["sequence_lengths"] + 1).tolist()
    completions = [row[:length].tolist() for row, length in zip(train["responses"], lengths, strict=True)]
    stop = train["self"].stop_token_id
    assert all(len(row) == train["gen_length"] or row[-1] == stop for row in completions), (
        "TRL took a sampled pad for an end"
    )
    return (
        {
            "prompts": [[token for token in row.tolist() if token != PAD] for row in train["queries"]],
            "completions": completions,
            "stats": {name: train[f"{name}_stats"].flatten().tolist() for name in STATS},
            "metrics": {name: train["metrics"][name] for name in METRICS},
        }
        | {name: train[name].tolist() for name in ROLLOUT}
        | {"score_place": train["actual_end"].tolist()}
    )


def step_of(train: dict[str, Any]) -> dict[str, Any]:
    """One micro-batch after its backward; the loss and gradients are those of this step's weights."""
    return {
        "rows": train["micro_batch_inds"].tolist(),
        "policy_loss": train["pg_loss"].item(),
        "value_loss": train["vf_loss"].item(),
        "loss": train["loss"].item(),
        "logprobs": train["new_logprobs"].tolist(),
        "values": train["vpred"].tolist(),
        "ratio": train["ratio"].tolist(),
    }


def adapter_gradients(policy: PeftModel) -> dict[str, torch.Tensor]:
    """Gradients so far: those of earlier micro-batches of the same step are in them."""
    return {peft_name(name): p.grad.clone() for name, p in policy.named_parameters() if "lora" in name}


def peft_name(name: str) -> str:
    """The tensor's name in a PEFT file."""
    return name.replace(".default", "")


def trunk_gradient_norm(model: LlamaForSequenceClassification) -> float:
    return torch.stack([p.grad.norm() for p in model.model.parameters()]).norm().item()


def golden_functions(run: dict[str, Any]) -> dict[str, Any]:
    """TRL's functions alone, where a whole run cannot show the difference in one process or with one pad id."""
    raw = torch.tensor(run["returns"]) - torch.tensor(run["values"])
    lengths = torch.tensor([len(completion) for completion in run["completions"]])
    mask = torch.arange(raw.shape[1]) < lengths[:, None]
    half = len(raw) // 2
    responses = torch.full(raw.shape, 5)
    responses[0, 3] = responses[1, 0] = EOS
    cut = truncate_response(EOS, EOS, responses)
    return {
        "advantages_of_two_ranks": [
            masked_whiten(*rank).tolist() for rank in zip(raw.split(half), mask.split(half), strict=True)
        ],
        "last_places_where_pad_is_eos": (first_true_indices(cut == EOS) - 1)[:3].tolist(),
        "lengths_where_pad_is_eos": [4, 1, raw.shape[1]],
    }


if __name__ == "__main__":
    main()
