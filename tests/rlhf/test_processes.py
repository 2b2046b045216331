"""Two processes take the same steps as one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.run_folders import make_run, metrics, run
from trainer.rlhf.processes import Processes

HAS_E = "tests.rlhf.rewards:has_e"
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]


def test_two_processes_give_the_metrics_and_weights_of_one(tmp_path, tiny_base):
    settings = {
        "updates": 2,
        "prompts": 8,
        "samples": 3,
        "minibatches": 2,
        "kl": {"target": 1.0, "stop": None, "rise": None},
    }
    alone, shared = (make_run(tmp_path / name, tiny_base, ppo=settings) for name in ("alone", "shared"))
    run(alone)
    command = [*LAUNCHER, "-m", "trainer.rlhf", "ppo", str(shared.path), "--reward", HAS_E]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for one, two in zip(metrics(alone), metrics(shared), strict=True):
        for name, value in one.items():
            if not name.startswith(("seconds/", "tokens_per_second/")):
                assert two[name] == pytest.approx(value, rel=2e-3, abs=2e-4), name
    first, second = (load_file(folder.path / "ppo/policy/adapter_model.safetensors") for folder in (alone, shared))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=2e-3, rtol=2e-2)


def test_a_single_process_sums_and_gathers_what_it_has():
    alone = Processes()
    assert alone.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert alone.gather({2: "b", 0: "a"}) == ["a", "b"]
    assert alone.is_first
