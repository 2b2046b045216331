"""A stage that fails says why in one sentence, whatever could not be read, written or used; and whether to retry."""

import errno
import io
import json
import sys

import pytest
from safetensors import SafetensorError

from tests.rlhf.run_folders import make_run
from trainer.rlhf.__main__ import main
from trainer.rlhf.closing import closing_sentence
from trainer.rlhf.folder import COMPLETE, FAILED, FolderBusy, MetricsLog, RunFolder, StageError, run_stage


def failed(folder, error: Exception | None = None) -> dict:
    """Runs a stage that meets an error, or that asks for its own folder alone; what error.json says then."""

    def stage(folder, _stop):
        if error:
            raise error
        folder.stage("reward")

    assert run_stage("reward", stage, folder) == FAILED
    return json.loads((folder / "error.json").read_text())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"base_model": "b"}')
    return tmp_path


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EFBIG, "File too large", "model.safetensors"),
        SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
    ],
)
def test_a_full_disk_is_worth_another_try(folder, error, capsys):
    said = failed(folder, error)
    assert said["can_retry"] and said["reason"].startswith("The disk is full")
    assert f"reward: {said['reason']}\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "is_lost"),
    [
        ("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4711", True),
        ("[gloo/transport/tcp/pair.cc:547] Read error [127.0.0.1]:4711: Connection reset by peer", True),
        ("[gloo/transport/tcp/pair.cc:446] writev [127.0.0.1]:4711: Broken pipe", True),
        ("NCCL error in: ProcessGroupNCCL.cpp:3384, remote process exited or there was a network error", True),
        ("[gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find address for: nope0", False),
        ("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation", False),
    ],
)
def test_another_process_is_gone_where_the_network_says_so_and_not_where_it_is_set_up_wrong(folder, words, is_lost):
    if is_lost:
        said = failed(folder, RuntimeError(words))
        assert said["reason"] == "another process of the launch is gone; run the stage again to go on"
    else:
        with pytest.raises(RuntimeError):
            failed(folder, RuntimeError(words))
        said = json.loads((folder / "error.json").read_text())
        assert said["reason"] == f"RuntimeError: {words}"
    assert said["can_retry"] is is_lost


def test_it_names_the_file_that_stands_in_the_place_of_a_folder(folder):
    (folder / "reward").write_text("")
    assert failed(folder) == {"stage": "reward", "reason": f"{folder / 'reward'}: File exists", "can_retry": False}


def test_what_an_earlier_stage_said_goes_before_a_full_disk_ends_the_next(folder, monkeypatch):
    (folder / "error.json").write_text('{"stage": "sft", "reason": "old", "can_retry": false}')

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.rlhf.folder.write_text", full)
    assert run_stage("reward", lambda *_: None, folder) == FAILED
    assert not (folder / "error.json").exists()


def test_it_writes_why_it_failed_while_the_folder_is_its_own(folder, monkeypatch):
    class Seen(Exception):
        pass

    def write(*_):
        with pytest.raises(FolderBusy), RunFolder(folder).held():
            pass
        raise Seen

    def fails(*_):
        monkeypatch.setattr("trainer.rlhf.folder.write_json", write)
        raise StageError("no")

    with pytest.raises(Seen):
        run_stage("reward", fails, folder)


def test_it_says_what_happened_where_error_json_cannot_be_written(folder, capsys):
    (folder / "error.json").mkdir()
    assert run_stage("reward", lambda *_: None, folder) == FAILED
    assert capsys.readouterr().err == f"reward: {folder / 'error.json'}: Is a directory\n"


def test_it_says_that_the_configuration_is_no_utf_8_and_keeps_no_copy(folder):
    (folder / "config.json").write_bytes('{"base_model": "modèle"}'.encode("latin-1"))
    assert failed(folder)["reason"] == "config.json is not UTF-8: invalid continuation byte at byte 20"
    assert not (folder / "reward" / "config.json").exists()


def test_it_still_shows_where_an_error_that_nobody_thought_of_came_from(folder):
    with pytest.raises(KeyError):
        failed(folder, KeyError("x"))
    assert json.loads((folder / "error.json").read_text())["reason"] == "KeyError: 'x'"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_messages_ends_and_one_quick_step_in_some_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    log = MetricsLog(tmp_path / "metrics.jsonl", "sft")
    log.append(0, 9, message="reading rankings")
    for step in range(1, 10):
        log.append(step, 9, {"x": 1.0}, seconds_left=90.0 - 10 * step)
    assert sys.stderr.getvalue().splitlines() == ["sft 0/9: reading rankings", "sft 9/9, 0.0 min left"]
    log.last_told -= 6
    log.append(1, 9, seconds_left=90.0)
    assert sys.stderr.getvalue().splitlines()[2:] == ["sft 1/9, 1.5 min left"]
    monkeypatch.setattr("sys.stderr", io.StringIO())
    log.append(9, 9)
    assert sys.stderr.getvalue() == "", "no terminal, no lines"


def test_a_finished_ppo_says_how_far_it_went_and_where_the_policy_lies(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 1})
    command = ["ppo", str(tmp_path), "--reward", "tests.rlhf.rewards:has_e"]
    assert main(command) == COMPLETE
    said = capsys.readouterr().out.splitlines()
    record = json.loads(folder.product("ppo").read_text())
    where = f"The policy lies in {tmp_path / 'ppo' / 'policy'}."
    assert said == [f"Updates: 1 (as many as were asked for), {record['kl']:.1f} nats from the reference. {where}"]
    assert main(command) == COMPLETE
    again = capsys.readouterr().out.splitlines()
    assert again[0].startswith("ppo is finished") and again[1:] == said


@pytest.mark.parametrize(
    ("stage", "record", "words"),
    [
        ("reward", {"verdict": "Right on 70%."}, "Right on 70%. The reward model lies in {folder}/reward/model."),
        (
            "ppo",
            {"updates": 2, "stopped_because": "complete", "kl": -0.04},
            "Updates: 2 (as many as were asked for), 0.0 nats from the reference. The policy lies in "
            "{folder}/ppo/policy.",
        ),
        ("sft", {"steps": 4}, "Steps: 4. The policy lies in {folder}/sft/policy."),
        (
            "evaluate",
            {"win_rate": {"value": 0.7, "low": 0.6, "high": 0.8}, "judge": {"value": 0.5, "low": 0.4, "high": 0.6}},
            "Win rate over the parent, held-out prompts: 70% (95 % interval 60 to 80 %), 50% (95 % interval 40 to "
            "60 %) by the independent judge. All in {folder}/evaluation.json.",
        ),
    ],
)
def test_every_stage_says_what_came_out(tmp_path, stage, record, words):
    folder = RunFolder(tmp_path)
    folder.product(stage).parent.mkdir(parents=True, exist_ok=True)
    folder.product(stage).write_text(json.dumps(record))
    assert closing_sentence(folder, stage) == words.format(folder=tmp_path)


def test_metrics_end_before_a_line_that_cannot_be_read(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", "sft")
    log.append(1, 3)
    with log.path.open("a") as file:
        file.write("\0\0\0\n")
    log.append(2, 3)
    log.cut(2)
    assert [record["step"] for record in log.records()] == [1]
