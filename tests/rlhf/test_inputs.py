"""A stage goes on with a state of the inputs it has now, and makes anew what others have made."""

import json
import shutil
from pathlib import Path

import pytest

from tests.rlhf.run_folders import make_run, run
from tests.rlhf.test_reward_training import StopAfter, model_files, report_of, write_run
from trainer.rlhf import evaluation, reward_features
from trainer.rlhf.__main__ import main
from trainer.rlhf.evaluation import run_evaluate
from trainer.rlhf.folder import COMPLETE, FAILED, Stopped, StopSignal
from trainer.rlhf.inputs import key_of
from trainer.rlhf.reward_training import train_reward

HAS_E, SHORT = "tests.rlhf.rewards:has_e", "tests.rlhf.rewards:short"


def test_a_key_changes_with_options_and_files_and_with_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("one")
    first = key_of("x", 1, tmp_path / "a", tmp_path / "missing")
    assert key_of("x", 1, tmp_path / "a", tmp_path / "missing") == first
    assert key_of("x", 2, tmp_path / "a", tmp_path / "missing") != first
    folder = key_of(tmp_path)
    (tmp_path / "a").write_text("other")
    assert key_of("x", 1, tmp_path / "a", tmp_path / "missing") != first
    assert key_of(tmp_path) != folder
    monkeypatch.chdir(tmp_path)
    assert key_of(Path("a")) == key_of(tmp_path / "a"), "named from elsewhere it is the same"


def grown(folder) -> None:
    write_run(folder.path, folder.config.base_model, prompts=40)


def reversed_order(folder) -> None:
    path = folder.path / "rankings.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))


def with_prompts_held_out(folder) -> None:
    """As many as before, of other rankings: the parts have the sizes they had."""
    chosen = [json.loads(line)["prompt"] for line in (folder.path / "rankings.jsonl").read_text().splitlines()[:4]]
    lines = [{"id": str(number), "messages": each, "split": "held_out"} for number, each in enumerate(chosen)]
    (folder.path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def with_shorter_prompts(folder) -> None:
    path = folder.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_prompt_tokens": 8}))


@pytest.mark.parametrize("change", [grown, reversed_order, with_prompts_held_out, with_shorter_prompts])
def test_a_stopped_reward_stage_whose_inputs_changed_ends_as_one_that_never_had_others(tiny_base, tmp_path, change):
    settings = {"prompts": 28, "reward": {"train": "lora"}, "lora": {"r": 4, "alpha": 8}}
    stopped, fresh = (write_run(tmp_path / name, tiny_base, **settings) for name in ("stopped", "fresh"))
    with pytest.raises(Stopped):
        train_reward(stopped, StopAfter(4))
    assert list((stopped.path / "reward" / "state" / "tuning").glob("step-*"))
    for folder in (stopped, fresh):
        change(folder)
    assert main(["reward", str(stopped.path)]) == main(["reward", str(fresh.path)]) == COMPLETE
    assert model_files(stopped) == model_files(fresh)
    assert report_of(stopped) == report_of(fresh)
    steps = [record["step"] for record in stopped.log("reward").records()]
    assert steps == [record["step"] for record in fresh.log("reward").records()]


def test_a_reward_stage_whose_files_were_only_written_again_reads_no_ranking_twice(tiny_base, tmp_path, monkeypatch):
    folder = write_run(tmp_path, tiny_base)
    train_reward(folder)
    whole = model_files(folder)
    folder.product("reward").unlink()
    write_run(tmp_path, tiny_base)
    monkeypatch.setattr(reward_features, "pooled_features", None)
    train_reward(folder)
    assert model_files(folder) == whole


def test_a_setting_that_bounds_no_memory_is_refused_once_the_reward_stage_has_begun(tiny_base, tmp_path, capsys):
    folder = write_run(tmp_path, tiny_base)
    assert main(["reward", str(folder.path)]) == COMPLETE
    folder.product("reward").unlink()
    with_shorter_prompts(folder)
    path = folder.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 2}))
    assert main(["reward", str(folder.path)]) == FAILED
    assert "reward was begun with other values of seed: set them back" in capsys.readouterr().err


@pytest.fixture
def evaluated(tmp_path, tiny_base):
    """A run whose evaluation is complete but for its record."""
    folder = make_run(tmp_path / "run", tiny_base, prompts=16)
    run(folder)
    run_evaluate(folder, StopSignal(), reward=HAS_E)
    folder.product("evaluate").unlink()
    return folder


def evaluation_of(folder, reward: str) -> str:
    """The record that an evaluation without any state writes."""
    alone = folder.path.parent / "alone"
    shutil.copytree(folder.path, alone)
    shutil.rmtree(alone / "evaluate")
    run_evaluate(type(folder)(alone), StopSignal(), reward=reward)
    return (alone / "evaluation.json").read_text()


def test_an_evaluation_with_another_reward_measures_anew(evaluated):
    run_evaluate(evaluated, StopSignal(), reward=SHORT)
    assert evaluated.product("evaluate").read_text() == evaluation_of(evaluated, SHORT)


def test_an_evaluation_of_a_policy_that_was_trained_anew_has_it_write_anew(evaluated, tmp_path, tiny_base):
    other = make_run(tmp_path / "other", tiny_base, prompts=16, seed=2, ppo={"updates": 2})
    run(other)
    shutil.rmtree(evaluated.path / "ppo")
    shutil.copytree(other.path / "ppo", evaluated.path / "ppo")
    run_evaluate(evaluated, StopSignal(), reward=HAS_E)
    assert evaluated.product("evaluate").read_text() == evaluation_of(evaluated, HAS_E)


def test_an_evaluation_of_the_same_writes_nothing_anew(evaluated, monkeypatch):
    monkeypatch.setattr(evaluation, "write_and_measure", None)
    run_evaluate(evaluated, StopSignal(), reward=HAS_E)


def test_an_evaluation_that_ran_out_of_memory_goes_on_with_fewer_samples(evaluated):
    path = evaluated.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"evaluate": {"samples": 1}}))
    assert main(["evaluate", str(evaluated.path), "--reward", HAS_E]) == COMPLETE
    assert json.loads(evaluated.product("evaluate").read_text())["win_rate"]["n"] == 4
