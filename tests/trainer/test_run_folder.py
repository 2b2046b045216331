import hashlib
import json
import os
from types import SimpleNamespace

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from annotate.models import Prompt, PromptPool
from annotate.services.rankings import keep_better_answer
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_pool, make_prompt
from trainer.generation import sample_texts
from trainer.models import TrainingRun
from trainer.rlhf.data import read_demonstrations
from trainer.run_folder import checkpoint_folder, keep_candidate, run_config, run_folder, write_run_folder


@pytest.fixture
def run(policy, rank, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    rank(4)
    return TrainingRun.objects.create(policy=policy, parent=policy.serving, snapshot=freeze_preferences(policy=policy))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_writes_what_the_run_learns_from(run):
    folder = write_run_folder(run)
    assert len(lines(folder / "rankings.jsonl")) == 4
    assert lines(folder / "rankings.jsonl")[0]["ranks"] == [1, 2]
    assert {row["split"] for row in lines(folder / "prompts.jsonl")} <= {"train", "held_out"}
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / "rankings.jsonl").read_bytes()).hexdigest()
    assert manifest["sha256"]["rankings.jsonl"] == digest


def test_better_answers_to_train_prompts_are_demonstrations(run):
    rankings = list(run.snapshot.rankings.select_related("assignment__comparison__prompt"))
    Prompt.objects.update(is_held_out=True)
    Prompt.objects.filter(pk=rankings[0].assignment.comparison.prompt_id).update(is_held_out=False)
    for ranking in rankings:
        keep_better_answer(ranking, f"Better than {ranking.pk}.")
    folder = write_run_folder(run)
    prompt = rankings[0].assignment.comparison.prompt
    expected = [
        (str(each.pk), [*prompt.messages, {"role": "assistant", "content": f"Better than {each.pk}."}])
        for each in rankings
        if each.assignment.comparison.prompt_id == prompt.pk
    ]
    assert [(each.id, each.messages) for each in read_demonstrations(folder / "demonstrations.jsonl")] == expected
    assert "demonstrations.jsonl" in json.loads((folder / "manifest.json").read_text())["sha256"]


def test_without_better_answers_there_is_no_file_of_demonstrations(run):
    assert not (write_run_folder(run) / "demonstrations.jsonl").exists()


def test_it_leaves_a_complete_folder_alone(run, rank):
    folder = write_run_folder(run)
    before = (folder / "prompts.jsonl").read_text()
    rank(1)
    write_run_folder(run)
    assert (folder / "prompts.jsonl").read_text() == before


def test_a_ranking_is_on_the_same_side_as_its_prompt(run):
    folder = write_run_folder(run)
    side = {row["id"]: row["split"] for row in lines(folder / "prompts.jsonl")}
    assert all(row["split"] == side[row["prompt_id"]] for row in lines(folder / "rankings.jsonl"))


def test_prompts_of_a_paused_pool_are_not_learned_on(run, policy):
    paused = make_pool(policy, "paused", status=PromptPool.Status.PAUSED)
    make_prompt(paused, "Not this one")
    folder = write_run_folder(run)
    assert "Not this one" not in (folder / "prompts.jsonl").read_text()


def test_a_recipe_changes_what_it_names_and_nothing_else(run):
    run.policy.recipe = {"ppo": {"updates": 3}, "seed": 7}
    config = run_config(run)
    assert config["seed"] == 7
    assert config["ppo"] == {"temperature": 1.0, "updates": 3}


def test_of_pools_that_differ_it_takes_the_hottest_and_the_longest_each_for_itself(run, policy):
    make_pool(policy, "hot", sampling={"temperature": 1.2, "top_p": 0.9, "max_new_tokens": 20})
    make_pool(policy, "long", sampling={"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 300})
    config = run_config(run)
    assert config["ppo"] == config["evaluate"] == {"temperature": 1.2}
    assert config["max_completion_tokens"] == 300


def test_a_run_learns_from_as_much_of_a_prompt_as_people_rank_on(run, monkeypatch):
    asked = {}
    monkeypatch.setattr("trainer.rlhf.rollout.sample", lambda *_given, **named: asked.update(named) or [])
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1, max_position_embeddings=8192))
    monkeypatch.setattr("trainer.generation.ready_policy", lambda _checkpoint: SimpleNamespace(model=model))
    sample_texts(run.parent, [[{"role": "user", "content": "Long."}]], {}, [1])
    assert asked["max_prompt_tokens"] == run_config(run)["max_prompt_tokens"] == 1024


def test_the_candidate_is_kept_once_and_the_run_folder_stays_whole(run):
    trained = run_folder(run) / "ppo" / "policy"
    trained.mkdir(parents=True)
    (trained / "adapter_model.safetensors").write_bytes(b"weights")
    keep_candidate(run)
    keep_candidate(run)
    assert (checkpoint_folder(run) / "adapter_model.safetensors").read_bytes() == b"weights"
    assert (trained / "adapter_model.safetensors").exists()


def test_the_candidates_name_is_on_disk_before_a_row_can_hold_it(run, monkeypatch):
    trained, kept = run_folder(run) / "ppo" / "policy", checkpoint_folder(run)
    (trained / "templates").mkdir(parents=True)
    (trained / "templates" / "other.jinja").write_text("")
    synced = {}
    monkeypatch.setattr(os, "fsync", lambda handle: synced.update({os.fstat(handle).st_ino: kept.exists()}))
    keep_candidate(run)
    is_named = {path: synced.get(path.stat().st_ino) for path in (kept / "templates", kept, *kept.parents[:3])}
    assert list(is_named.values()) == [False, False, True, True, True]
