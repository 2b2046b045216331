"""Two CPU processes must train the reward model that one trains, to rounding."""

from __future__ import annotations

import pytest
import torch

from tests.rlhf.run_folders import with_two_processes
from tests.rlhf.test_reward_training import report_of, write_run
from trainer.rlhf.packing import Group
from trainer.rlhf.reward_model import load_reward_model
from trainer.rlhf.reward_training import train_reward


@pytest.mark.parametrize(("simcse", "dropout"), [(0.0, 0.0), (0.5, 0.1)])
def test_it_trains_the_same_with_two_processes(tiny_base, tmp_path, simcse, dropout):
    settings = {
        "reward": {"train": "lora", "rankings_per_step": 5, "learning_rate": 1e-3, "simcse": simcse},
        "lora": {"r": 4, "alpha": 8, "dropout": dropout},
    }
    one, two = (write_run(tmp_path / name, tiny_base, prompts=40, **settings) for name in ("one", "two"))
    train_reward(one)
    with_two_processes("reward", two.path)
    group = Group([1, 5, 6], [[7, 8, 2], [9, 2]])
    models = [load_reward_model(run.path / "reward" / "model", dtype="float32") for run in (one, two)]
    scores = [model.score_groups([group]) for model in models]
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-3, atol=1e-3)
    assert report_of(two)["accuracy"] == report_of(one)["accuracy"]
    for name in ("reward/loss", "reward/grad_norm"):
        steps = [[each["metrics"] for each in run.log("reward").records()] for run in (one, two)]
        first, second = ([step[name] for step in each if name in step] for each in steps)
        assert len(first) > 1 and second == pytest.approx(first, rel=1e-4), name


def test_a_signal_to_one_of_two_processes_stops_both_with_their_state_saved(tiny_base, tmp_path):
    """First while they read rankings, then, taken up again, while they tune."""
    settings = {"reward": {"train": "lora", "rankings_per_step": 4}, "lora": {"r": 4, "alpha": 8}}
    run = write_run(tmp_path, tiny_base, prompts=40, **settings)
    state = run.path / "reward" / "state"
    for stands in ("learning-000001", "tuning/step-000001"):
        with_two_processes("reward", run.path, program="tests.rlhf.second_stopped", code=1)  # the launcher's own code
        assert (state / stands / "manifest.json").exists()
        assert sorted(path.read_text() for path in run.path.glob("ended-*")) == ["75", "75"]
        assert not (run.path / "error.json").exists()
