"""Nothing enters fp64 but through `exact`: a device without it, as Apple's MPS is, would fail there."""

import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.rlhf.run_folders import make_run, with_reward_model
from trainer.rlhf.evaluation import run_evaluate
from trainer.rlhf.exact import exact, exact_device
from trainer.rlhf.folder import StopSignal
from trainer.rlhf.ppo import run_ppo


class StrayDoubles(TorchDispatchMode):
    """Notes where a tensor of another dtype became fp64, alone or beside an fp64 tensor, and not in `exact`."""

    def __init__(self):
        super().__init__()
        self.places: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = [each.dtype for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        is_double = any(each.dtype == torch.float64 for each in tree_leaves(found) if isinstance(each, torch.Tensor))
        if is_double and any(dtype != torch.float64 for dtype in given):
            frames, frame = [], sys._getframe(1)
            while frame:
                frames.append((Path(frame.f_code.co_filename).name, frame.f_lineno))
                frame = frame.f_back
            if "exact.py" not in {name for name, _ in frames}:
                self.places.add(" < ".join(f"{name}:{line}" for name, line in frames[:4]))
        return found


def test_a_run_and_its_evaluation_enter_fp64_in_one_place_only(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, ppo={"updates": 2})
    with_reward_model(folder, tiny_base, pooling="last")
    with StrayDoubles() as stray:
        run_ppo(folder, StopSignal())
        run_evaluate(folder, StopSignal())
    assert not stray.places


def test_it_goes_to_the_processor_where_the_device_has_no_fp64():
    assert exact_device(torch.device("mps")) == torch.device("cpu")
    assert exact_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert exact(torch.tensor([1, 2])).dtype == torch.float64
