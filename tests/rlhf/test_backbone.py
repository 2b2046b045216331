"""A reward model on a frozen model that is not the policy's base: an encoder, or another decoder."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM

from tests.rlhf.run_folders import make_run, metrics
from tests.rlhf.test_reward_training import BAD, GOOD, StopAfter, model_files, report_of, write_run
from trainer.rlhf.encoding import encode_group
from trainer.rlhf.folder import StageError, Stopped, StopSignal
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ppo import observe_rollout, run_ppo, sample_prompts
from trainer.rlhf.ppo_job import prepare
from trainer.rlhf.reward_head import Reading, RewardHead
from trainer.rlhf.reward_model import RewardModel, load_reward_model, save_reward_model
from trainer.rlhf.reward_training import train_reward
from trainer.rlhf.score import run_score
from trainer.rlhf.trunk import pooled_features

GROUPS = [Group([2, 20, 30], [[50, 60, 3], [70, 3]]), Group([2, 21], [[51, 3], [61, 62, 63, 3]])]


def probe_on(backbone, base) -> RewardModel:
    trunk = load_policy(backbone, dtype="float32", device="cpu", can_be_encoder=True)
    policy = load_policy(base, dtype="float32", device="cpu")
    generator = torch.Generator().manual_seed(1)
    sizes = [own.model.config.hidden_size for own in (trunk, policy)]
    score, judge = (RewardHead((Reading("mean", 1),), torch.randn(1, size, generator=generator)) for size in sizes)
    return RewardModel("backbone", trunk, policy, score, judge, {})


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_an_encoder_gives_each_completion_the_states_it_has_alone(tiny_bert, layer):
    policy = load_policy(tiny_bert, dtype="float32", device="cpu", can_be_encoder=True)
    plain = AutoModelForMaskedLM.from_pretrained(tiny_bert, dtype=torch.float32).eval()
    features = pooled_features(
        policy.model, GROUPS, readings=[("last", layer), ("mean", layer)], pad_id=policy.pad_id, max_tokens=30
    )
    expected = [
        plain(torch.tensor([group.prompt_ids + own]), output_hidden_states=True).hidden_states[layer][0, -len(own) :]
        for group in GROUPS
        for own in group.completions
    ]
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(features["mean", layer], torch.stack([own.mean(0) for own in expected]), **close)
    torch.testing.assert_close(features["last", layer], torch.stack([own[-1] for own in expected]), **close)


def test_its_terms_are_an_exact_attribution_and_padding_changes_nothing(tiny_bert, tiny_base):
    model = probe_on(tiny_bert, tiny_base)
    scores = model.score_groups(GROUPS)
    terms = model.explain_groups(GROUPS)
    assert [len(own) for own in terms] == [3, 2, 2, 4]
    torch.testing.assert_close(torch.stack([own.mean() for own in terms]), scores)
    ids, real, mine = (torch.tensor([row]) for row in ([2, 20, 30, 70, 3, 0], [1] * 5 + [0], [0, 0, 0, 1, 1, 0]))
    torch.testing.assert_close(model.score(ids, real.bool(), mine.bool()), scores[1:2], rtol=1e-4, atol=1e-5)


def test_it_scores_to_the_bit_as_it_was_saved(tiny_bert, tiny_base, tmp_path):
    model = probe_on(tiny_bert, tiny_base)
    save_reward_model(model, tmp_path / "model", {})
    loaded = load_reward_model(tmp_path / "model", base=model.base, dtype="float32")
    assert loaded.kind == "backbone" and not loaded.is_frozen_trunk and loaded.trunk is not loaded.base
    assert torch.equal(loaded.score_groups(GROUPS), model.score_groups(GROUPS))
    assert torch.equal(loaded.judge_groups(GROUPS), model.judge_groups(GROUPS))


@pytest.mark.parametrize("backbone", ["tiny_bert", "tiny_gpt2"])
def test_it_learns_on_a_backbone_and_judges_on_the_base(request, tiny_base, tmp_path, backbone):
    folder = request.getfixturevalue(backbone)
    run = write_run(tmp_path / "run", tiny_base, prompts=60, reward={"backbone": str(folder), "layer": 1})
    train_reward(run)
    report = report_of(run)
    assert report["kind"] == "backbone" and report["chosen"]["layer"] == 1
    assert report["accuracy"]["value"] > 0.7 and report["judge"]["pairs"] == report["accuracy"]["pairs"]
    records = run.log("reward").records()
    assert records[-1]["step"] == records[-1]["steps"]
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    prompt = [{"role": "user", "content": "What do you think about 99 dogs?"}]
    limits = {"max_prompt_tokens": 99, "max_completion_tokens": 12}
    scores = model.score_groups([encode_group(model.trunk.tokenizer, prompt, GOOD + BAD, **limits)])
    assert scores[: len(GOOD)].mean() > scores[len(GOOD) :].mean()
    source, out = tmp_path / "completions.jsonl", tmp_path / "scores.jsonl"
    source.write_text(json.dumps({"prompt": prompt, "text": GOOD[0]}) + "\n")
    run_score(run, StopSignal(), completions=source, out=out)
    (entry,) = json.loads(out.read_text())["completions"]
    assert entry["score"] == pytest.approx(float(scores[0]), rel=1e-3, abs=1e-4) and "judge" in entry


@pytest.mark.parametrize("searched", [600, 20])
def test_it_ends_the_same_after_a_kill(tiny_bert, tiny_base, tmp_path, monkeypatch, searched):
    for module in ("reward_features", "reward_probes"):
        monkeypatch.setattr(f"trainer.rlhf.{module}.SEARCH_RANKINGS", searched)
    whole, killed = (
        write_run(tmp_path / name, tiny_base, prompts=50, reward={"backbone": str(tiny_bert)})
        for name in ("whole", "killed")
    )
    train_reward(whole)
    for looks in (2, 4):
        with pytest.raises(Stopped):
            train_reward(killed, StopAfter(looks))
    train_reward(killed)
    assert model_files(killed) == model_files(whole)
    assert report_of(killed) == report_of(whole)


def test_ppo_has_its_texts_scored_by_the_backbone_and_judged_by_the_base(tmp_path, tiny_base, tiny_bert):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 2})
    model = probe_on(tiny_bert, tiny_base)
    save_reward_model(model, folder.stage("reward") / "model", {})
    job = prepare(folder, folder.config, None)
    rollout = sample_prompts(job, 1)
    found = job.scorer.scores(rollout, observe_rollout(job, rollout))
    for row, sample in enumerate(rollout.samples):
        prompt = rollout.prompts[row // rollout.samples_per_prompt].messages
        limits = {"max_prompt_tokens": 256, "max_completion_tokens": 6}
        group = encode_group(model.trunk.tokenizer, prompt, [sample.text], **limits)
        assert float(found[row]) == pytest.approx(float(model.score_groups([group])), rel=1e-3, abs=1e-4)
    run_ppo(folder, StopSignal())
    assert {"objective/scores", "objective/judge"} <= metrics(folder)[0].keys()


def test_its_weights_stay_frozen(tiny_base, tiny_bert, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, reward={"backbone": str(tiny_bert), "train": "lora"}, lora={"r": 2})
    with pytest.raises(StageError, match="stays frozen"):
        train_reward(run)
