"""What was made on another base of the same shape fits this one, and means nothing on it: it is refused by name."""

import json
import shutil

import pytest

from tests.rlhf.run_folders import make_run, with_reward_model
from tests.rlhf.test_supervised import with_demonstrations
from trainer.rlhf.__main__ import main
from trainer.rlhf.config import LoraConfig
from trainer.rlhf.folder import COMPLETE, FAILED
from trainer.rlhf.policy import load_policy

HAS_E = ["--reward", "tests.rlhf.rewards:has_e"]


@pytest.fixture
def other_base(tmp_path, tiny_base):
    """Of the same shape, with one weight that differs."""
    other = shutil.copytree(tiny_base, tmp_path / "other-base")
    (weights,) = other.glob("*.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    return other


def save_policy(path, base) -> None:
    policy = load_policy(base, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=4, alpha=8), seed=1)
    policy.save_adapter("policy", path, {"base": str(base)})


def command(stage: str, folder, *, reward=HAS_E) -> list[str]:
    """The stage's command line; what is scored is one line."""
    written, out = folder.path.parent / "written.jsonl", ["--out", str(folder.path.parent / "out.jsonl")]
    written.write_text(json.dumps({"prompt": [{"role": "user", "content": "Rain?"}], "text": "Lovely."}) + "\n")
    options = {"ppo": reward, "evaluate": reward, "generate": out, "score": [*out, "--completions", str(written)]}
    return [stage, str(folder.path), *options.get(stage, [])]


@pytest.mark.parametrize("stage", ["pretrain", "sft", "ppo", "evaluate", "generate"])
def test_a_parent_of_another_base_is_refused(tmp_path, tiny_base, other_base, capsys, stage):
    parent = tmp_path / "parent"
    save_policy(parent, other_base)
    folder = with_demonstrations(make_run(tmp_path / "run", tiny_base, parent=str(parent)))
    (folder.path / "corpus.txt").write_text("Cats sleep all day long.")
    if stage == "evaluate":
        save_policy(folder.path / "ppo" / "policy", tiny_base)
    assert main(command(stage, folder)) == FAILED
    said = f"{parent} was trained on the base {other_base}, and not on that of this run, {tiny_base}"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "made"),
    [
        ("ppo", "reward/model"),
        ("score", "reward/model"),
        ("evaluate", "ppo/policy"),
        ("generate", "ppo/policy"),
        ("generate", "sft/policy"),
    ],
)
def test_what_the_run_made_on_another_base_is_refused(tmp_path, tiny_base, other_base, capsys, stage, made):
    folder = make_run(tmp_path / "run", tiny_base)
    if made == "reward/model":
        with_reward_model(folder, other_base)
    else:
        save_policy(folder.path / made, other_base)
    assert main(command(stage, folder, reward=[] if made == "reward/model" else HAS_E)) == FAILED
    assert f"{folder.path / made} was trained on the base {other_base}, and not on" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["ppo", "evaluate", "generate"])
def test_what_was_made_before_all_was_moved_is_read(tmp_path, tiny_base, stage):
    """The folder of the base that it was made on is gone: nothing can be compared with it."""
    old = shutil.copytree(tiny_base, tmp_path / "old")
    folder = make_run(tmp_path / "run", tiny_base, parent=str(tmp_path / "parent"), ppo={"updates": 1})
    with_reward_model(folder, old)
    save_policy(tmp_path / "parent", old)
    if stage != "ppo":
        save_policy(folder.path / "ppo" / "policy", old)
    shutil.rmtree(old)
    assert main(command(stage, folder, reward=[])) == COMPLETE
