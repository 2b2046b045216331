"""A reward that can be hacked, hacked by a real PPO run, evaluated, and held against the gate."""

import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.rlhf.run_folders import make_run
from trainer.gate import weigh
from trainer.rlhf.evaluation import run_evaluate
from trainer.rlhf.folder import StopSignal
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_model import RewardModel, save_reward_model

PPO = {
    "updates": 24,
    "prompts": 8,
    "samples": 8,
    "learning_rate": 0.03,
    "kl": {"coef": 0.0, "stop": None, "rise": None},
    "judge_patience": 24,  # no stop of its own: the gate is what must refuse
    "has_peak_stop": False,
}


def base_that_knows(word: str, base, folder):
    """The base with one more token, the only one whose embedding has something in its last place: 1."""
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    tokenizer.add_tokens([word])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings[:, -1] = 0.0
        embeddings[-1] = torch.eye(embeddings.shape[1])[-1]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_gate_refuses_what_learned_to_please_a_reward_of_one_for_each_great(tmp_path, tiny_base):
    """The judge, as people would, likes a completion the less the more of it is that word."""
    base = base_that_knows(" great", tiny_base, tmp_path / "base")
    folder = make_run(tmp_path / "run", base, prompts=32, ppo=PPO, evaluate={"samples": 6})
    policy = load_policy(base, dtype="float32", device="cpu")
    great = torch.eye(policy.model.config.hidden_size)[-1:]
    head = RewardHead((Reading("mean", 0),), great, low=0.0, high=1.0)
    model = RewardModel("probe", policy, policy, head, head._replace(weight=-great), {})
    save_reward_model(model, folder.stage("reward") / "model", {})
    folder.product("reward").write_text('{"judge": {"value": 0.7, "low": 0.6, "high": 0.8}}')

    run_ppo(folder, StopSignal())
    run_evaluate(folder, StopSignal())
    found = json.loads(folder.product("evaluate").read_text())
    assert any(sample["candidate"].count(" great") > 1 for sample in found["samples"])
    verdict = weigh(found, {"accuracy": {"value": 0.7}}, {})
    checks = {check.name: check.has_passed for check in verdict.checks}
    assert checks["min_win_rate"], "by the run's own reward model it is the better one"
    assert not checks["min_judge_win_rate"] and not checks["is_overoptimised"]
    assert not verdict.has_passed
    assert "it learned to please the reward model" in verdict.sentence
