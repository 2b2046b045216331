"""A stage is made with one set of values: changed ones are refused by name, and what it does not read may change."""

import json
from dataclasses import fields, is_dataclass

import pytest

from tests.rlhf.run_folders import make_run, metrics
from tests.rlhf.test_supervised import with_demonstrations
from trainer.rlhf.__main__ import main
from trainer.rlhf.config import COST_ALONE, MADE_ANEW, READ_BY, RunConfig, changed_keys, parse
from trainer.rlhf.folder import COMPLETE, FAILED, MEMORY_KEYS, STOPPED, StopSignal

HAS_E = ["--reward", "tests.rlhf.rewards:has_e"]


def change(folder, **values) -> None:
    """Writes top-level values into the run's config.json."""
    path = folder.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def sft(tmp_path, tiny_base):
    return with_demonstrations(make_run(tmp_path, tiny_base, sft={"epochs": 2, "conversations_per_step": 1}))


def test_it_refuses_a_finished_stage_whose_settings_changed_and_names_them(sft, capsys):
    assert main(["sft", str(sft.path)]) == COMPLETE
    product = sft.product("sft").read_bytes()
    capsys.readouterr()
    change(sft, seed=2, sft={"epochs": 3, "conversations_per_step": 1})
    assert main(["sft", str(sft.path)]) == FAILED
    assert capsys.readouterr().err == (
        "sft: sft was begun with other values of seed, sft.epochs: set them back, take a new run folder, or remove "
        "sft/\n"
    )
    assert sft.product("sft").read_bytes() == product
    change(sft, seed=1, sft={"epochs": 2, "conversations_per_step": 1})
    assert main(["sft", str(sft.path)]) == COMPLETE
    assert capsys.readouterr().out.startswith("sft is finished; remove sft/ to have it made anew\n")
    assert sft.product("sft").read_bytes() == product


def test_it_refuses_to_mix_two_settings_in_an_unfinished_stage(tmp_path, tiny_base, monkeypatch, capsys):
    folder = make_run(tmp_path, tiny_base)
    command = ["ppo", str(folder.path), *HAS_E]
    monkeypatch.setattr(StopSignal, "catch", lambda stop: setattr(stop, "is_set", True))
    assert main(command) == STOPPED
    record = json.loads((tmp_path / "config.json").read_text())
    change(folder, ppo=record["ppo"] | {"samples": 3})
    assert main(command) == FAILED
    assert "ppo was begun with other values of ppo.samples: set them back" in capsys.readouterr().err
    change(folder, ppo=record["ppo"] | {"micro_tokens": 60, "checkpoint_every": 2}, sft={"epochs": 7})
    assert main(command) == STOPPED
    assert len(metrics(folder)) == 2, "what changes memory alone may be changed on the way"


def test_it_takes_a_mended_config_while_nothing_is_made(sft, tiny_base):
    change(sft, base_model="/nowhere/at/all")
    assert main(["sft", str(sft.path)]) == FAILED
    change(sft, base_model=str(tiny_base))
    assert main(["sft", str(sft.path)]) == COMPLETE


def test_it_goes_on_with_a_folder_that_does_not_say_what_it_was_begun_with(sft):
    """One that an earlier version of this program wrote."""
    assert main(["sft", str(sft.path)]) == COMPLETE
    (sft.path / "sft" / "config.json").unlink()
    change(sft, seed=2)
    assert main(["sft", str(sft.path)]) == COMPLETE


@pytest.mark.parametrize(
    ("stage", "record", "names"),
    [
        ("ppo", {"ppo": {"kl": {"stop": None}}, "reward": {"l2": 1.0}}, ["ppo.kl.stop"]),
        ("ppo", {"ppo": {"updates": RunConfig("b").ppo.updates, "micro_tokens": 1}}, []),
        ("ppo", {"sft": {"max_tokens": 9, "epochs": 9}, "pretrain": {"block_tokens": 9}}, []),
        (
            "ppo",
            {"sft": {"max_tokens": 9, "epochs": 9}, "ppo": {"loss": {"ptx": 0.5}}},
            ["ppo.loss.ptx", "sft.max_tokens"],
        ),
        ("reward", {"lora": None, "parent": "p", "reward": {"l2": 1.0}}, ["lora", "reward.l2"]),
        ("reward", {"max_completion_tokens": 9, "lora": {"r": 2}}, ["max_completion_tokens", "lora.r"]),
        ("evaluate", {"lora": None, "evaluate": {"samples": 9}}, ["evaluate.samples"]),
        ("pretrain", {"max_prompt_tokens": 9, "dtype": "float32"}, ["dtype"]),
    ],
)
def test_it_names_what_changed_of_what_the_stage_reads(stage, record, names):
    now = parse(RunConfig, {"base_model": "b"} | record)
    assert changed_keys(stage, RunConfig("b"), now) == changed_keys(stage, now, RunConfig("b")) == names


def test_every_key_decides_some_stage_or_is_known_to_decide_none():
    read = {key for keys in READ_BY.values() for key in keys} | COST_ALONE | {"format", "trust_remote_code"}
    keys = set(keys_of(RunConfig))
    assert {key for key in keys if not any(f"{key}.".startswith(f"{one}.") for one in read)} == set()
    assert {one for one in read if not any(f"{key}.".startswith(f"{one}.") for key in keys)} == set()


@pytest.mark.parametrize("stage", MADE_ANEW)
def test_a_stage_that_makes_anew_takes_what_is_advised_where_memory_ran_out(stage):
    assert set(MEMORY_KEYS[stage].split(", ")) == set(MADE_ANEW[stage])


def keys_of(kind: type, prefix: str = "") -> list[str]:
    config = kind("b") if kind is RunConfig else kind()
    values = {prefix + field.name: getattr(config, field.name) for field in fields(kind)}
    return [
        key
        for name, value in values.items()
        for key in (keys_of(type(value), f"{name}.") if is_dataclass(value) else [name])
    ]
