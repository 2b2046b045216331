"""A run that was stopped or killed ends bit-identical to one that never was; the same seed gives the same run."""

import json
import os
import re
import signal
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.run_folders import make_run, metrics, run, with_reward_model, with_two_processes
from trainer.rlhf import folder as run_folder
from trainer.rlhf import ppo
from trainer.rlhf.__main__ import main
from trainer.rlhf.config import RunConfig
from trainer.rlhf.folder import (
    BUSY,
    COMPLETE,
    FAILED,
    MEMORY_KEYS,
    STOPPED,
    FolderBusy,
    MetricsLog,
    StageError,
    Stopped,
    StopSignal,
    run_stage,
)
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.ppo_job import peak_update_of
from trainer.rlhf.processes import Processes

HAS_E = "tests.rlhf.rewards:has_e"
TIMED = ("seconds/", "tokens_per_second/", "flops_share/")


class StopAfter(StopSignal):
    """SIGTERM that arrives during a given update."""

    def __init__(self, updates: int):
        super().__init__()
        self.left = updates

    def is_agreed(self, *processes) -> bool:
        self.left -= 1
        return self.left == 0


def adapter(folder) -> dict[str, bytes]:
    tensors = load_file(folder.path / "ppo" / "policy" / "adapter_model.safetensors")
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def untimed(folder) -> list[dict]:
    return [{name: value for name, value in step.items() if not name.startswith(TIMED)} for step in metrics(folder)]


def test_the_same_seed_gives_the_same_metrics_and_weights_and_another_seed_others(tmp_path, tiny_base):
    first, second = (make_run(tmp_path / name, tiny_base) for name in "ab")
    other = make_run(tmp_path / "c", tiny_base, seed=2)
    for folder in (first, second, other):
        run(folder)
    assert untimed(first) == untimed(second) != untimed(other)
    assert adapter(first) == adapter(second) != adapter(other)


@pytest.mark.parametrize("kind", ["head", "adapter"])
def test_a_stopped_run_ends_bit_identical_to_one_never_stopped(tmp_path, tiny_base, kind):
    settings = {
        "updates": 4,
        "kl": {"target": 0.5, "stop": None, "rise": None},
        "critic": {"kind": kind, "pretrain_steps": 2},
    }
    whole, broken = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("whole", "broken"))
    run(whole)
    for updates in (1, 2):
        with pytest.raises(Stopped):
            run_ppo(broken, StopAfter(updates), reward=HAS_E)
    run(broken)
    assert adapter(broken) == adapter(whole)
    assert untimed(broken) == untimed(whole)


def test_a_stopped_run_of_full_bf16_weights_ends_bit_identical_too(tmp_path, tiny_base):
    """Its weights alone do not say where it was: the steps add up in fp32 copies."""
    settings = {"lora": None, "dtype": "bfloat16", "ppo": {"updates": 3, "learning_rate": 1e-3}}
    whole, broken = (make_run(tmp_path / name, tiny_base, **settings) for name in ("whole", "broken"))
    run(whole)
    with pytest.raises(Stopped):
        run_ppo(broken, StopAfter(1), reward=HAS_E)
    run(broken)
    ends = [(folder.path / "ppo" / "policy" / "model.safetensors").read_bytes() for folder in (whole, broken)]
    assert ends[0] == ends[1]
    assert untimed(broken) == untimed(whole)


@pytest.mark.parametrize(("kind", "reward"), [("adapter", "lora"), ("full", "full"), ("adapter", "probe")])
def test_a_critic_that_started_as_the_reward_model_goes_on_from_its_own_state(tmp_path, tiny_base, kind, reward):
    settings = {"updates": 3, "critic": {"kind": kind, "pretrain_steps": 2}}
    whole, broken = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("whole", "broken"))
    for folder in (whole, broken):
        with_reward_model(folder, tiny_base, pooling="last", kind=reward)
    run_ppo(whole, StopSignal())
    with pytest.raises(Stopped):
        run_ppo(broken, StopAfter(1))
    run_ppo(broken, StopSignal())
    assert adapter(broken) == adapter(whole)
    assert untimed(broken) == untimed(whole)


class Killed(BaseException):
    """As if the process were gone: nothing catches it."""


def test_a_run_killed_at_any_look_also_while_it_shortens_a_step_ends_bit_identical(tmp_path, tiny_base, monkeypatch):
    settings = {"updates": 12, "learning_rate": 0.003, "kl": {"coef": 0.0, "stop": 0.15}}
    whole, broken = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("whole", "broken"))
    looks, real = [], ppo.look
    monkeypatch.setattr(ppo, "look", lambda *given: looks.append(1) or real(*given))
    run(whole)
    assert len(looks) > len(metrics(whole)) + 1, "the step that went over was shortened"
    kills = 0
    for allowed in range(1, 20):
        left = iter(range(allowed))

        def mortal(*given, left=left):
            if next(left, None) is None:
                raise Killed
            return real(*given)

        monkeypatch.setattr(ppo, "look", mortal)
        try:
            run(broken)
            break
        except Killed:
            kills += 1
    assert kills > 1
    assert adapter(broken) == adapter(whole)
    assert untimed(broken) == untimed(whole)


def test_a_run_killed_after_it_said_why_it_stops_does_not_say_it_again(tmp_path, tiny_base, monkeypatch):
    settings = {"updates": 12, "learning_rate": 0.003, "kl": {"coef": 0.0, "stop": 0.15}}
    folder = make_run(tmp_path, tiny_base, ppo=settings)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(ppo, "publish", killed)
        for _ in range(2):
            with pytest.raises(Killed):
                run(folder)
    run(folder)
    said = [record["message"] for record in folder.log("ppo").records() if "message" in record]
    assert [each.split()[0] for each in said] == ["critic", "stopped"]


def test_a_run_killed_as_soon_as_its_state_stands_has_logged_what_that_state_holds(tmp_path, tiny_base, monkeypatch):
    whole, broken = (make_run(tmp_path / name, tiny_base) for name in ("whole", "broken"))
    run(whole)
    real = ppo.save_progress

    def mortal(*given):
        real(*given)
        raise Killed

    monkeypatch.setattr(ppo, "save_progress", mortal)
    with pytest.raises(Killed):
        run(broken)
    monkeypatch.setattr(ppo, "save_progress", real)
    assert untimed(broken) != []
    run(broken)
    assert untimed(broken) == untimed(whole)


def program(folder, **signalled) -> subprocess.CompletedProcess:
    """How `trainer.rlhf ppo` ended, told when to send itself a signal (see `rewards.has_e_until`)."""
    reward = "tests.rlhf.rewards:has_e_until"
    command = [sys.executable, "-m", "trainer.rlhf", "ppo", str(folder.path), "--reward", reward]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | signalled
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_a_program_that_is_terminated_and_then_killed_ends_as_one_that_was_left_alone(tmp_path, tiny_base):
    whole, broken = (make_run(tmp_path / name, tiny_base, ppo={"updates": 5}) for name in ("whole", "broken"))
    assert program(whole).returncode == COMPLETE
    assert program(broken, SIGNAL="SIGTERM", CALL="2").returncode == STOPPED
    assert [record["step"] for record in broken.log("ppo").records()][-1] == 2
    assert program(broken, SIGNAL="SIGKILL", CALL="2").returncode == -signal.SIGKILL
    assert program(broken).returncode == COMPLETE
    assert adapter(broken) == adapter(whole)
    assert untimed(broken) == untimed(whole)


def test_a_launch_of_which_either_process_is_killed_ends_as_one_that_was_left_alone(tmp_path, tiny_base, monkeypatch):
    """First the first of them, then, taken up again, the second: the other ends too and gives the folder back.

    Either is killed at the third scores it asks for, and so has made two updates.
    """
    settings = {"updates": 5, "prompts": 8}
    whole, broken = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("whole", "broken"))
    command = ("--reward", "tests.rlhf.rewards:has_e_until")
    with_two_processes("ppo", whole.path, *command)
    with monkeypatch.context() as patch:
        patch.setenv("SIGNAL", "SIGKILL")
        patch.setenv("CALL", "3")
        for rank, saved in (("0", "step-000002"), ("1", "step-000004")):
            patch.setenv("OF_RANK", rank)
            with_two_processes("ppo", broken.path, *command, code=1)  # the launcher's own code
            assert json.loads((broken.path / "error.json").read_text()) == {
                "stage": "ppo",
                "reason": "another process of the launch is gone; run the stage again to go on",
                "can_retry": True,
            }
            with broken.held():
                assert [path.name for path in (broken.path / "ppo" / "state").glob("step-*")] == [saved]
    with_two_processes("ppo", broken.path, *command)
    assert not (broken.path / "error.json").exists()
    assert adapter(broken) == adapter(whole)
    assert untimed(broken) == untimed(whole)


def test_ctrl_c_saves_the_state_and_says_so_and_a_second_one_ends_the_program_at_once(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 5, "checkpoint_every": 5})
    once = program(folder, SIGNAL="SIGINT", CALL="2")
    assert once.returncode == STOPPED
    assert once.stderr.splitlines()[-2:] == [
        "stopping after this step; Ctrl-C again ends it at once",
        "ppo: stopped, its state is saved; run it again to go on",
    ]
    assert "Traceback" not in once.stderr
    assert [path.name for path in (tmp_path / "ppo" / "state").glob("step-*")] == ["step-000002"]
    twice = program(folder, SIGNAL="SIGINT", CALL="2", TIMES="2")
    assert twice.returncode == -signal.SIGINT
    assert "Traceback" not in twice.stderr
    assert [path.name for path in (tmp_path / "ppo" / "state").glob("step-*")] == ["step-000002"]


def test_a_folder_in_which_another_process_works_is_left_alone(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path, tiny_base)
    before = sorted(path.name for path in tmp_path.iterdir())
    with folder.held():
        assert main(["ppo", str(tmp_path), "--reward", HAS_E]) == BUSY
        said = f"ppo: another process is at work in {tmp_path}: wait for it, or end it\n"
        assert capsys.readouterr().err == said
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, ".lock", ".lock.shares"])
    assert main(["ppo", str(tmp_path), "--reward", HAS_E]) == COMPLETE


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of a launch, which its first has joined."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(run_folder, "join_processes", lambda: Processes(1, 2))


def lost(*_):
    raise StageError("Connection closed by peer")


def test_processes_of_one_launch_are_one_in_its_folder(tmp_path, tiny_base, second_of_two, monkeypatch):
    folder, ran = make_run(tmp_path, tiny_base), []
    with folder.held():
        for rank, code in (("0", BUSY), ("1", COMPLETE)):
            monkeypatch.setenv("RANK", rank)
            assert run_stage("ppo", lambda *_, rank=rank: ran.append(rank), tmp_path) == code
    assert ran == ["1"]
    assert not (tmp_path / "ppo").exists(), "what a stage is begun with the first alone writes"


def test_what_is_left_of_a_launch_whose_first_process_was_killed_still_has_the_folder(
    tmp_path, tiny_base, second_of_two, capsys
):
    folder, ran = make_run(tmp_path, tiny_base), []

    def stage(*_):
        with pytest.raises(FolderBusy, match="another process is at work in"), folder.held():
            pass
        ran.append(1)

    assert run_stage("ppo", stage, tmp_path) == COMPLETE
    assert ran == [1]
    with folder.held():
        pass


def test_a_launch_leaves_no_word_in_a_folder_that_its_first_process_did_not_get(
    tmp_path, tiny_base, second_of_two, monkeypatch
):
    make_run(tmp_path, tiny_base)
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "join_processes", lost)
        assert run_stage("ppo", lambda *_: None, tmp_path) == FAILED
    assert not (tmp_path / "error.json").exists()
    assert run_stage("ppo", lost, tmp_path) == FAILED
    assert json.loads((tmp_path / "error.json").read_text())["reason"] == "Connection closed by peer"


def test_a_launch_says_why_it_failed_though_another_process_was_there_before_the_first(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    (tmp_path / "config.json").write_text(json.dumps({"base_model": str(tiny_base), "seed": "one"}))
    (tmp_path / "error.json").write_text('{"stage": "ppo", "reason": "of an earlier launch", "can_retry": false}')
    with_two_processes("ppo", folder.path, "--reward", HAS_E, program="tests.rlhf.first_is_late", code=1)
    reason = json.loads((tmp_path / "error.json").read_text())["reason"]
    assert reason.startswith("seed: must be a whole number")


def test_of_several_processes_the_first_to_fail_says_why(tmp_path, tiny_base, second_of_two, monkeypatch):
    make_run(tmp_path, tiny_base)

    def fails(reason, rank, then=None):
        def stage(*_):
            if then:
                then()
            monkeypatch.setenv("RANK", rank)
            raise StageError(reason)

        monkeypatch.setenv("RANK", rank)
        assert run_stage("ppo", stage, tmp_path) == FAILED

    fails("Connection closed by peer", "0", lambda: fails("the gradient is not finite", "1"))
    assert json.loads((tmp_path / "error.json").read_text())["reason"] == "the gradient is not finite"
    fails("another", "0")
    assert json.loads((tmp_path / "error.json").read_text())["reason"] == "another", "one of an earlier launch goes"


def test_a_complete_stage_is_complete_while_another_stage_runs(tmp_path, tiny_base, monkeypatch, capsys):
    folder = make_run(tmp_path, tiny_base)
    folder.stage("sft")
    (folder.path / "sft" / "policy").mkdir()
    folder.product("sft").write_text("{}")
    with folder.held():
        assert run_stage("sft", lambda *_: None, tmp_path) == COMPLETE
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        assert run_stage("sft", lambda *_: None, tmp_path) == COMPLETE
    assert capsys.readouterr().out.count("sft is finished") == 1


def test_a_process_that_is_killed_gives_its_folder_back(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    assert program(folder, SIGNAL="SIGKILL", CALL="1").returncode == -signal.SIGKILL
    with folder.held():
        pass


def test_a_complete_stage_does_nothing_and_succeeds(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    run(folder)

    def must_not_run(*_):
        raise AssertionError

    assert run_stage("ppo", must_not_run, folder.path) == COMPLETE


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"name": "prompts.jsonl"}, "there is no {folder}/prompts.jsonl"),
        ({"base_model": "/nowhere/at/all"}, "there is no model in /nowhere/at/all: there is no such folder"),
        ({"ppo": {"updates": "3"}}, "ppo.updates: must be a whole number"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(tmp_path, tiny_base, broken, words):
    folder = make_run(tmp_path, tiny_base)
    if "name" in broken:
        (tmp_path / broken["name"]).unlink()
    else:
        record = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(record | broken))
    command = [sys.executable, "-m", "trainer.rlhf", "ppo", str(folder.path), "--reward", HAS_E]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.returncode == 1
    said = [line for line in ended.stderr.splitlines() if line.startswith("ppo: ")]
    assert len(said) == 1 and words.format(folder=tmp_path) in said[0]
    assert "Traceback" not in ended.stderr
    assert f"ppo: {json.loads((tmp_path / 'error.json').read_text())['reason']}" == said[0]


def test_a_failure_is_told_in_error_json(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path, tiny_base)
    assert run_stage("ppo", run_ppo, folder.path) == 1
    assert "\nppo: there is no reward/model" in "\n" + capsys.readouterr().err
    error = json.loads((folder.path / "error.json").read_text())
    assert error == {
        "stage": "ppo",
        "reason": "there is no reward/model: run the reward stage first, or name a function with --reward",
        "can_retry": False,
    }


@pytest.mark.parametrize("stage", MEMORY_KEYS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stage_that_ran_out_of_memory_names_what_bounds_it_there(tmp_path, stage, device):
    def starved(_folder, _stop):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.5 GiB.")
        torch.empty(10**15)

    (tmp_path / "config.json").write_text('{"base_model": "b"}')
    with pytest.raises(RuntimeError):
        run_stage(stage, starved, tmp_path)
    error = json.loads((tmp_path / "error.json").read_text())
    assert error["can_retry"]
    advice = "The machine ran out of memory; lower (.+), or free some, and retry."
    remedy = f"(?: Before lowering (.+), remove {stage}/: the stage then begins anew.)?"
    keys, refused = re.fullmatch(advice + remedy, error["reason"]).groups()
    known = {"pretrain": "pretrain.block_tokens", "sft": "sft.max_tokens", "ppo": "ppo.samples"}
    assert refused == known.get(stage)
    for key in keys.split(", "):
        attrgetter(key)(RunConfig("b"))
        own, length = f"{stage}.", key in ("max_prompt_tokens", "max_completion_tokens")
        assert key.startswith(own) or (length and stage not in ("sft", "pretrain"))


def test_the_log_is_cut_where_a_run_resumes_half_lines_included(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", "ppo")
    for step in range(1, 5):
        log.append(step, 9, {"x": step})
    with log.path.open("a") as file:
        file.write('{"stage": "ppo", "st')
    log.cut(3)
    assert [record["step"] for record in log.records()] == [1, 2, 3]
    log.append(4, 9, {"x": 4})
    assert [record["metrics"]["x"] for record in log.records()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("record", "update"), [({"peak_update": 2}, 2), ({"peak_kl": 0.5}, 1), ({"peak_kl": 0.0}, 3), ({}, 3)]
)
def test_a_state_says_which_rollout_its_peak_is_of(record, update):
    """`peak_kl` stands in the states of an earlier version, which judged a favourite by fewer rollouts."""
    history = {"kl": [0.1, 0.5, 1.0, 2.0], "judge": [0.0, 1.0, 0.0, 1.0]}
    assert peak_update_of(record | {"history": history}) == update
