"""A stage goes on with a state of the inputs it has now, and makes anew what others have made."""

import json
import shutil
from pathlib import Path

import pytest

from tests.rlhf.run_folders import make_run, metrics, run, with_reward_model
from tests.rlhf.test_reward_training import StopAfter, model_files, report_of, write_run
from tests.rlhf.test_supervised import with_demonstrations
from tests.tiny_models import make_llama
from trainer.rlhf import evaluation, inputs, ppo_job, pretrain, reward_features, reward_training, sft
from trainer.rlhf.__main__ import main
from trainer.rlhf.config import LoraConfig
from trainer.rlhf.evaluation import run_evaluate
from trainer.rlhf.folder import COMPLETE, FAILED, STOPPED, RunFolder, Stopped, StopSignal
from trainer.rlhf.inputs import content_of, key_of
from trainer.rlhf.policy import is_same_model, load_policy
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.reward_model import save_reward_model
from trainer.rlhf.reward_training import train_reward
from trainer.rlhf.scoring import scorer_inputs
from trainer.rlhf.sft import run_sft

HAS_E, SHORT = "tests.rlhf.rewards:has_e", "tests.rlhf.rewards:short"


def test_a_key_changes_with_options_and_files_and_with_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("one")
    first = key_of("x", 1, tmp_path / "a", tmp_path / "missing")
    assert key_of("x", 1, tmp_path / "a", tmp_path / "missing") == first
    assert key_of("x", 2, tmp_path / "a", tmp_path / "missing") != first
    with monkeypatch.context() as later:
        later.setattr(inputs, "ENCODING", inputs.ENCODING + 1)
        assert key_of("x", 1, tmp_path / "a", tmp_path / "missing") != first
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


def test_a_reward_state_that_an_earlier_version_laid_out_is_made_anew(tiny_base, tmp_path, monkeypatch):
    folder = write_run(tmp_path, tiny_base)
    with monkeypatch.context() as earlier:
        earlier.setattr(reward_training, "STATE_FORMAT", reward_training.STATE_FORMAT - 1)
        with pytest.raises(Stopped):
            train_reward(folder, StopAfter(1))
    mark = folder.stage("reward") / "state" / "of-then"
    mark.touch()
    train_reward(folder)
    assert not mark.exists()
    folder.product("reward").unlink()
    mark.touch()
    train_reward(folder)
    assert mark.exists(), "one of now is taken up"


def test_a_setting_that_bounds_no_memory_is_refused_once_the_reward_stage_has_begun(tiny_base, tmp_path, capsys):
    folder = write_run(tmp_path, tiny_base)
    assert main(["reward", str(folder.path)]) == COMPLETE
    folder.product("reward").unlink()
    with_shorter_prompts(folder)
    path = folder.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 2}))
    assert main(["reward", str(folder.path)]) == FAILED
    assert "reward was begun with other values of seed: set them back" in capsys.readouterr().err


def judge_alone(folder, base) -> None:
    """The same reward model, with another judge."""
    model = with_reward_model(folder, base)
    other = model._replace(judge_head=model.judge_head._replace(weight=-model.judge_head.weight))
    save_reward_model(other, folder.path / "reward" / "model", {})


def another_prompt(folder, _base) -> None:
    path = folder.path / "prompts.jsonl"
    path.write_text(path.read_text().replace("Say 0 things", "Say nothing"))


def rankings_that_hold_out(folder, _base, *, number=0) -> None:
    """One of a prompt that the run trains on, or of one that it does not."""
    prompt = json.loads((folder.path / "prompts.jsonl").read_text().splitlines()[number])
    completions = [{"id": text, "text": text} for text in "ab"]
    line = {"id": "1", "prompt": prompt["messages"], "completions": completions, "ranks": [1, 2], "split": "held_out"}
    (folder.path / "rankings.jsonl").write_text(json.dumps(line) + "\n")


def retrained_parent(folder, base) -> None:
    policy = load_policy(base, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=4, alpha=8), seed=9)
    policy.save_adapter("policy", folder.path / "parent", {"base": str(base)})


def another_demonstration(folder, _base) -> None:
    path = folder.path / "demonstrations.jsonl"
    path.write_text(path.read_text() * 2)


@pytest.fixture
def begun(tmp_path, tiny_base, monkeypatch):
    """A PPO run with all that it can be made of, stopped after its first update."""
    base = make_llama(tmp_path / "base")
    run_path = tmp_path / "run"
    folder = make_run(run_path, base, parent=str(run_path / "parent"), ppo={"loss": {"ptx": 0.1}})
    with_demonstrations(folder)
    with_reward_model(folder, base)
    policy = load_policy(base, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=4, alpha=8), seed=1)
    policy.save_adapter("policy", run_path / "parent", {"base": str(base)})
    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "catch", lambda stop: setattr(stop, "is_set", True))
        assert main(["ppo", str(run_path)]) == STOPPED
    return folder


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda folder, base: with_reward_model(folder, base, pooling="last"), "reward/model"),
        (judge_alone, "reward/model"),
        (retrained_parent, "parent"),
        (
            lambda _folder, base: (base / "config.json").write_text((base / "config.json").read_text() + " "),
            "base_model",
        ),
        (another_prompt, "prompts.jsonl"),
        (rankings_that_hold_out, "rankings.jsonl"),
        (another_demonstration, "demonstrations.jsonl"),
    ],
)
def test_an_unfinished_ppo_refuses_to_go_on_with_what_it_was_not_begun_with(begun, capsys, change, name):
    change(begun, Path(begun.config.base_model))
    state = sorted((begun.path / "ppo" / "state").rglob("*"))
    for _ in range(2):
        assert main(["ppo", str(begun.path)]) == FAILED
        said = capsys.readouterr().err
        assert (
            f"ppo was begun with other contents of {name}: set them back, take a new run folder, or remove ppo/" in said
        )
    assert sorted((begun.path / "ppo" / "state").rglob("*")) == state
    assert len(metrics(begun)) == 1


def test_an_unfinished_ppo_goes_on_with_the_same_written_again(begun):
    with_reward_model(begun, Path(begun.config.base_model))
    (begun.path / "prompts.jsonl").touch()
    (begun.path / "corpus.txt").write_text("Of no use beside demonstrations.")
    rankings_that_hold_out(begun, None, number=3)
    assert main(["ppo", str(begun.path)]) == COMPLETE
    assert len(metrics(begun)) == 3


def test_of_a_model_only_what_it_computes_and_writes_by_counts(tmp_path):
    """README, notes, a manifest and a hub's own folder do not; what lies in a folder of it does."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "additional_chat_templates").mkdir(parents=True)
        for name in ("config.json", "generation_config.json", "model.safetensors", "vocab.txt"):
            (folder / name).write_text(name)
        (folder / "additional_chat_templates" / "tool.jinja").write_text("{{ x }}")
    before = content_of(second)
    (second / ".cache").mkdir()
    for name in ("README.md", "notes.txt", ".cache/a.json"):
        (second / name).write_text("Good.")
    assert content_of(second) == before == content_of(first)
    (second / "manifest.json").write_text("{}")
    assert is_same_model(first, second)
    (second / "manifest.json").unlink()
    for name in ("generation_config.json", "vocab.txt", "additional_chat_templates/tool.jinja"):
        (second / name).write_text("other")
        assert content_of(second) != before and not is_same_model(first, second)
        (second / name).write_text((first / name).read_text())
    assert content_of(second) == before and is_same_model(first, second)
    assert not is_same_model("hub/one", "hub/two") and is_same_model("hub/one", "hub/one")


def test_an_unfinished_ppo_refuses_another_reward_model_in_the_folder_that_was_named(tmp_path, tiny_base, capsys):
    folder, other = (make_run(tmp_path / name, tiny_base) for name in ("run", "other"))
    with_reward_model(other, tiny_base)
    named = other.path / "reward"
    with pytest.raises(Stopped):
        run_ppo(folder, StopAfter(1), reward_model=named)
    with_reward_model(other, tiny_base, pooling="last")
    assert main(["ppo", str(folder.path), "--reward-model", str(named)]) == FAILED
    assert "ppo was begun with other contents of --reward-model: set them back" in capsys.readouterr().err


def test_a_reward_model_on_a_frozen_model_of_its_own_is_that_model_too(tmp_path):
    """Its weights are not among the files of the reward model."""
    folder = RunFolder(tmp_path)
    path = folder.stage("reward") / "model"
    path.mkdir()
    (path / "manifest.json").write_text('{"kind": "backbone", "backbone": "/models/encoder"}')
    assert scorer_inputs(folder, None, None) == {"reward/model": path, "reward.backbone": Path("/models/encoder")}


def test_an_unfinished_ppo_refuses_a_reward_function_that_was_rewritten(tmp_path, tiny_base, capsys, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "def reward(prompts, completions):\n    return [1.0] * len(completions)\n"
    (tmp_path / "taste.py").write_text(source)
    folder = make_run(tmp_path / "run", tiny_base)
    with pytest.raises(Stopped):
        run_ppo(folder, StopAfter(1), reward="taste:reward")
    (tmp_path / "taste.py").write_text(source.replace("1.0", "2.0"))
    assert main(["ppo", str(folder.path), "--reward", "taste:reward"]) == FAILED
    assert "ppo was begun with other contents of --reward taste:reward: set them back" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["ppo", "evaluate"])
def test_a_finished_stage_is_not_one_of_another_reward_function(tmp_path, tiny_base, capsys, stage):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 1})
    for each in ("ppo", "evaluate"):
        assert main([each, str(tmp_path), "--reward", HAS_E]) == COMPLETE
    product = folder.product(stage).read_bytes()
    for options in (["--reward", SHORT], []):
        assert main([stage, str(tmp_path), *options]) == FAILED
        assert f"{stage} was begun with other values of --reward: set them back" in capsys.readouterr().err
    assert main([stage, str(tmp_path), "--reward", HAS_E]) == COMPLETE
    assert folder.product(stage).read_bytes() == product


def test_an_unfinished_sft_refuses_other_demonstrations(tmp_path, tiny_base, capsys):
    folder = with_demonstrations(make_run(tmp_path, tiny_base, sft={"epochs": 2, "conversations_per_step": 1}))
    with pytest.raises(Stopped):
        run_sft(folder, StopAfter(1))
    another_demonstration(folder, tiny_base)
    assert main(["sft", str(tmp_path)]) == FAILED
    assert "sft was begun with other contents of demonstrations.jsonl: set them back" in capsys.readouterr().err


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


def changed_since(folder, stage: str, capsys, *options: str) -> str:
    """What a complete stage that is called again says behind where its product lies; it is left as it is."""
    product = folder.product(stage).read_bytes()
    capsys.readouterr()
    assert main([stage, str(folder.path), *options]) == COMPLETE
    assert folder.product(stage).read_bytes() == product
    return "".join(capsys.readouterr().out.splitlines(keepends=True)[2:])


def test_a_finished_sft_says_that_its_demonstrations_have_changed(tmp_path, tiny_base, capsys):
    folder = with_demonstrations(make_run(tmp_path, tiny_base, sft={"conversations_per_step": 4}))
    assert main(["sft", str(tmp_path)]) == COMPLETE
    assert changed_since(folder, "sft", capsys) == ""
    another_demonstration(folder, tiny_base)
    assert changed_since(folder, "sft", capsys) == (
        "This sft is of other contents of demonstrations.jsonl than are there now: to have it made of these, remove "
        "sft/, and then what later stages have made of it.\n"
    )
    (tmp_path / "demonstrations.jsonl").unlink()
    assert changed_since(folder, "sft", capsys) == "", "what is gone is not asked for"


def test_a_finished_reward_model_says_that_rankings_have_joined(tmp_path, tiny_base, capsys):
    folder = write_run(tmp_path, tiny_base)
    assert main(["reward", str(tmp_path)]) == COMPLETE
    assert changed_since(folder, "reward", capsys) == ""
    grown(folder)
    assert changed_since(folder, "reward", capsys).startswith("This reward is of other contents of rankings.jsonl than")
    (tmp_path / "reward" / "inputs.json").unlink()
    assert changed_since(folder, "reward", capsys) == "", "one that an earlier version made kept none"


def test_a_finished_reward_model_is_of_the_rankings_that_stood_before_it_read_any(tiny_base, tmp_path, monkeypatch):
    folder, read = write_run(tmp_path, tiny_base), reward_training.named_splits

    def grow_meanwhile(its_folder):
        monkeypatch.undo()
        splits = read(its_folder)
        grown(its_folder)
        return splits

    before = content_of(tmp_path / "rankings.jsonl")
    monkeypatch.setattr(reward_training, "named_splits", grow_meanwhile)
    assert main(["reward", str(tmp_path)]) == COMPLETE
    assert json.loads((tmp_path / "reward" / "inputs.json").read_text())["rankings.jsonl"] == before
    assert before != content_of(folder.path / "rankings.jsonl")


@pytest.mark.parametrize(
    ("stage", "reads_on", "name"),
    [
        ("sft", (sft, "check_examples"), "demonstrations.jsonl"),
        ("pretrain", (pretrain, "check_examples"), "corpus.txt"),
        ("ppo", (ppo_job, "load_actors"), "prompts.jsonl"),
        ("evaluate", (evaluation, "load_contestants"), "prompts.jsonl"),
    ],
)
def test_a_finished_stage_is_of_what_it_read_and_not_of_what_was_written_meanwhile(
    tmp_path, tiny_base, monkeypatch, stage, reads_on, name
):
    """It is written when the stage has read it, and goes on to something else."""
    folder = with_demonstrations(make_run(tmp_path, tiny_base, ppo={"updates": 1}))
    (tmp_path / "corpus.txt").write_text("Cats sleep all day long.")
    if stage == "evaluate":
        with_policy(folder, tmp_path / "ppo" / "policy", seed=1)
    before, go_on = content_of(tmp_path / name), getattr(*reads_on)

    def write_meanwhile(*arguments, **options):
        with (tmp_path / name).open("a") as file:
            file.write("\n")
        return go_on(*arguments, **options)

    monkeypatch.setattr(*reads_on, write_meanwhile)
    assert main([stage, str(tmp_path), *(["--reward", HAS_E] if stage in ("ppo", "evaluate") else [])]) == COMPLETE
    assert json.loads((tmp_path / stage / "inputs.json").read_text())[name] == before
    assert before != content_of(tmp_path / name)


def with_policy(folder, path, *, seed) -> None:
    """An adapter of the run's base, as a stage leaves one."""
    policy = load_policy(folder.config.base_model, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=4, alpha=8), seed=seed)
    policy.save_adapter("policy", path, {"base": folder.config.base_model})


def test_a_finished_evaluation_says_that_the_checkpoint_it_was_given_has_changed(
    tmp_path, tiny_base, capsys, monkeypatch
):
    """It lies in the run folder, which is named from where one stands, and the checkpoint from the root."""
    folder = make_run(tmp_path / "run", tiny_base, prompts=16)
    with_policy(folder, folder.path / "sft" / "policy", seed=1)
    monkeypatch.chdir(tmp_path)
    named = ("--reward", HAS_E, "--checkpoint", str(folder.path / "sft" / "policy"))
    assert main(["evaluate", "run", *named]) == COMPLETE
    assert changed_since(RunFolder("run"), "evaluate", capsys, *named) == ""
    with_policy(folder, folder.path / "sft" / "policy", seed=2)
    said = changed_since(RunFolder("run"), "evaluate", capsys, *named)
    assert said.startswith("This evaluate is of other contents of sft/policy than are there now")


@pytest.mark.parametrize("is_own", [True, False])
def test_a_finished_ppo_says_that_its_parent_in_the_run_folder_has_changed(tmp_path, tiny_base, capsys, is_own):
    parent = tmp_path / ("run/sft/policy" if is_own else "elsewhere")
    folder = make_run(tmp_path / "run", tiny_base, parent=str(parent), ppo={"updates": 1})
    with_policy(folder, parent, seed=1)
    assert main(["ppo", str(folder.path), "--reward", HAS_E]) == COMPLETE
    with_policy(folder, parent, seed=2)
    said = changed_since(folder, "ppo", capsys, "--reward", HAS_E)
    assert said.startswith("This ppo is of other contents of parent than are there now") if is_own else said == ""


def test_a_finished_evaluation_says_that_the_policy_was_trained_anew(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path, tiny_base, prompts=16)
    run(folder)
    assert main(["evaluate", str(tmp_path), "--reward", HAS_E]) == COMPLETE
    assert changed_since(folder, "evaluate", capsys, "--reward", HAS_E) == ""
    shutil.rmtree(tmp_path / "ppo")
    run(folder, "short")
    said = changed_since(folder, "evaluate", capsys, "--reward", HAS_E)
    assert said.startswith("This evaluate is of other contents of ppo/policy than are there now")
    assert "remove evaluate/, evaluation.json, and then" in said
