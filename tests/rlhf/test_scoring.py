"""PPO against a reward model on disk: one forward gives its score, its judge's and the critic's features."""

import json
import shutil

import pytest
import torch

from tests.rlhf.run_folders import make_run, metrics, with_reward_model
from trainer.rlhf.config import ConfigError
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.measurement import measure
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import observe_rollout, run_ppo, sample_prompts
from trainer.rlhf.ppo_job import prepare
from trainer.rlhf.reward_model import save_reward_model
from trainer.rlhf.score import run_score
from trainer.rlhf.scoring import load_scorer, reward_model_folder


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_shared_forward_gives_the_scores_the_reward_model_gives_by_itself(tmp_path, tiny_base, pooling):
    folder = make_run(tmp_path, tiny_base)
    model = with_reward_model(folder, tiny_base, pooling=pooling)
    job = prepare(folder, folder.config, None)
    rollout = sample_prompts(job, 1)
    found = observe_rollout(job, rollout)
    torch.testing.assert_close(found.scores, model.score_groups(rollout.groups), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.judge, model.judge_groups(rollout.groups), atol=1e-5, rtol=1e-4)
    if pooling == "mean":
        means = found.token_scores.sum(1) / rollout.mask.sum(1)
        torch.testing.assert_close(means, found.scores, atol=1e-5, rtol=1e-4)
    else:
        assert found.token_scores is None


@pytest.mark.parametrize("is_dense", [None, False])
def test_a_run_raises_the_score_of_its_reward_model_and_logs_the_judges(tmp_path, tiny_base, is_dense):
    ppo = {"updates": 12, "prompts": 4, "samples": 8, "learning_rate": 0.02, "score": {"is_dense": is_dense}}
    folder = make_run(tmp_path, tiny_base, ppo=ppo)
    with_reward_model(folder, tiny_base)
    run_ppo(folder, StopSignal())
    found = metrics(folder)
    assert found[-1]["objective/scores"] > found[0]["objective/scores"] + 0.25 * found[0]["objective/scores_std"]
    assert "objective/judge" in found[0]
    assert found[-1]["scores/outside_training_range"] > found[0]["scores/outside_training_range"]


@pytest.mark.parametrize("kind", ["probe", "lora", "full"])
def test_it_says_how_far_the_voters_part_over_what_the_policy_writes(tmp_path, tiny_base, kind):
    """They are probes on the frozen base, whatever pays, and part in units of their own."""
    folder = make_run(tmp_path, tiny_base)
    model = with_reward_model(folder, tiny_base, kind=kind)
    probe = model._replace(kind="probe", trunk=model.base)
    shift = model.head._replace(
        weight=model.head.weight.clone(), bias=9.0, std=4.0
    )  # the same opinion on another scale, and twice as strong a one
    twice = model.head._replace(weight=2 * model.head.weight, std=4.0)
    save_reward_model(model._replace(voters=(shift, twice)), tmp_path / "voting", {})
    (folder.path / "reward" / "model").rename(tmp_path / "plain")
    (tmp_path / "voting").rename(folder.path / "reward" / "model")
    job = prepare(folder, folder.config, None)
    rollout = sample_prompts(job, 1)
    observation = observe_rollout(job, rollout)
    found = measure(job, rollout, observation).metrics["scores/disagreement"]
    scores = probe.score_groups(rollout.groups)
    # two voters at s and 2s about their means: half their distance each
    assert found == pytest.approx(float((scores - scores.mean()).abs().mean() / 2 / 4), rel=1e-4)


def test_dense_payment_needs_a_score_with_terms(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"score": {"is_dense": True}})
    with pytest.raises(StageError, match="needs a reward model that is a mean-pooled head"):
        prepare(folder, folder.config, "tests.rlhf.rewards:has_e")


@pytest.mark.parametrize(
    "name", ["no_colon", "tests.rlhf.rewards:absent", "no.such.module:f", ":f", "./rewards:f", "my/rewards:f"]
)
def test_a_function_that_cannot_be_found_is_named(tmp_path, tiny_base, name):
    with pytest.raises(ConfigError, match="--reward: "):
        load_scorer(RunFolder(tmp_path), name, base=load_policy(tiny_base, dtype="float32"))


def test_a_function_may_stand_in_any_file_that_python_imports(tmp_path, tiny_base, monkeypatch):
    (tmp_path / "my-rewards.py").write_text("def f(prompts, completions):\n    return [7.0]\n")
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_run(tmp_path, tiny_base)
    scorer = load_scorer(folder, "my-rewards:f", base=load_policy(tiny_base, dtype="float32"))
    assert scorer.function([], [""]) == [7.0]


@pytest.fixture
def another_run(tmp_path, tiny_base):
    """A run folder with a reward model of its own."""
    other = make_run(tmp_path / "other", tiny_base)
    with_reward_model(other, tiny_base)
    return other


@pytest.mark.parametrize("named", ["reward", "reward/model"])
def test_it_is_paid_by_the_reward_model_of_another_run(tmp_path, tiny_base, another_run, named):
    folder = make_run(tmp_path / "run", tiny_base)
    job = prepare(folder, folder.config, None, another_run.path / named)
    rollout = sample_prompts(job, 1)
    expected = prepare(another_run, another_run.config, None).scorer.model.score_groups(rollout.groups)
    assert torch.equal(job.scorer.model.score_groups(rollout.groups), expected)


def test_it_scores_with_the_reward_model_of_another_run(tmp_path, tiny_base, another_run):
    source = tmp_path / "completions.jsonl"
    source.write_text(json.dumps({"prompt": [{"role": "user", "content": "Rain?"}], "text": "Lovely."}) + "\n")
    folder, named = make_run(tmp_path / "run", tiny_base), another_run.path / "reward"
    run_score(folder, StopSignal(), completions=source, out=tmp_path / "a", reward_model=named)
    run_score(another_run, StopSignal(), completions=source, out=tmp_path / "b")
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_a_reward_model_on_another_base_is_refused(tmp_path, tiny_base, tiny_gpt2, another_run):
    folder = make_run(tmp_path / "run", tiny_gpt2)
    with pytest.raises(StageError, match=f"was trained on the base {tiny_base}, and not on that of this run"):
        reward_model_folder(folder, another_run.path / "reward")


def test_a_base_that_was_copied_is_the_same_until_it_is_changed(tmp_path, tiny_base, another_run):
    copied = tmp_path / "copied"
    shutil.copytree(tiny_base, copied)
    folder = make_run(tmp_path / "run", copied)
    model = another_run.path / "reward" / "model"
    assert reward_model_folder(folder, another_run.path / "reward") == model
    (weights,) = copied.glob("*.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    with pytest.raises(StageError, match="was trained on the base"):
        reward_model_folder(folder, model)


@pytest.mark.parametrize("name", ["nowhere", "other", "other/reward/model/head.safetensors"])
def test_a_folder_without_a_reward_model_is_named(tmp_path, tiny_base, another_run, name):
    with pytest.raises(StageError, match=f"there is no reward model in {tmp_path / name}"):
        reward_model_folder(make_run(tmp_path / "run", tiny_base), tmp_path / name)
