"""Checkpoints on disk: whole or not at all, checked at load, no pickle."""

import json

import pytest
import torch

from trainer.rlhf import checkpoint
from trainer.rlhf.checkpoint import (
    CheckpointError,
    SavingTime,
    copy_parameters,
    load_state,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    save_state,
    write_checkpoint,
)
from trainer.rlhf.folder import new_folder

TENSORS = {"policy": {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(2.5)}}


def test_it_reads_what_it_wrote_to_the_bit(tmp_path):
    write_checkpoint(tmp_path / "c", TENSORS, {"step": 3, "kl_coef": 0.1})
    tensors, record = read_checkpoint(tmp_path / "c")
    assert torch.equal(tensors["policy"]["a"], TENSORS["policy"]["a"])
    assert record["kl_coef"] == 0.1
    assert {file.suffix for file in (tmp_path / "c").iterdir()} == {".safetensors", ".json"}


def test_it_refuses_a_file_that_was_changed_or_taken_away(tmp_path):
    write_checkpoint(tmp_path / "c", TENSORS, {})
    file = tmp_path / "c" / "policy.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="is not the file its manifest describes"):
        read_checkpoint(tmp_path / "c")
    file.unlink()
    with pytest.raises(CheckpointError, match="policy.safetensors is missing"):
        read_checkpoint(tmp_path / "c")
    (tmp_path / "c" / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="no manifest"):
        read_checkpoint(tmp_path / "c")


def test_it_leaves_nothing_of_a_write_that_failed(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "c") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_of_a_folder_goes_with_the_next_try_and_what_is_beside_it_stays(tmp_path):
    for name in (".c.99", ".cc.99", "c.99"):
        (tmp_path / name).mkdir()
    with new_folder(tmp_path / "c") as folder:
        (folder / "whole").write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cc.99", "c", "c.99"]


def test_it_ignores_what_a_kill_left_of_the_next_state_and_keeps_only_the_newest(tmp_path):
    assert load_state(tmp_path / "state") is None
    for step in (1, 2):
        save_state(tmp_path / "state", step, TENSORS, {"kl_coef": step})
    (tmp_path / "state" / ".step-000003.99").mkdir()
    _, record = load_state(tmp_path / "state")
    assert (record["step"], record["kl_coef"]) == (2, 2)
    assert [folder.name for folder in (tmp_path / "state").glob("step-*")] == ["step-000002"]
    save_state(tmp_path / "state", 4, TENSORS, {})
    assert [folder.name for folder in (tmp_path / "state").iterdir()] == ["step-000004"], "nor the half one"


def test_a_restored_optimiser_takes_the_very_same_next_step():
    def step(parameter, optimiser, value):
        parameter.grad = torch.full_like(parameter, value)
        optimiser.step()

    first = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.AdamW([first], lr=0.1)
    step(first, optimiser, 1.0)
    second = torch.nn.Parameter(first.detach().clone())
    restored = torch.optim.AdamW([second], lr=0.1)
    saved = {name: value.clone() for name, value in optimiser_tensors(optimiser).items()}  # as a file would hold it
    restore_optimiser(restored, saved)
    step(first, optimiser, -0.3)
    step(second, restored, -0.3)
    assert torch.equal(first, second)


def test_it_names_the_tensors_that_do_not_fit():
    with pytest.raises(CheckpointError, match="does not fit the model: extra"):
        copy_parameters({"a": torch.zeros(1)}, {"a": torch.ones(1), "extra": torch.ones(1)})


def test_a_manifest_says_the_sha256_of_each_file(tmp_path):
    import hashlib

    write_checkpoint(tmp_path / "c", TENSORS, {"seed": 7})
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    digest = hashlib.sha256((tmp_path / "c" / "policy.safetensors").read_bytes()).hexdigest()
    assert manifest == {"seed": 7, "files": {"policy.safetensors": digest}}


def test_a_state_is_due_while_saving_has_taken_no_more_than_a_tenth_of_the_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    saving = SavingTime()
    now[0] += 6.0
    assert saving.is_due
    with saving.spent():
        now[0] += 2.0
    assert not saving.is_due  # 2 of 8 seconds
    now[0] += 11.9
    assert not saving.is_due  # 2 of 19.9
    now[0] += 0.2
    assert saving.is_due
