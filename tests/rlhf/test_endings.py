"""A stage that fails says why in one sentence, whatever could not be read, written or used; and whether to retry."""

import errno
import json

import pytest
from safetensors import SafetensorError

from trainer.rlhf.folder import FAILED, run_stage


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


def test_it_names_the_file_that_stands_in_the_place_of_a_folder(folder):
    (folder / "reward").write_text("")
    assert failed(folder) == {"stage": "reward", "reason": f"{folder / 'reward'}: File exists", "can_retry": False}


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
