"""The run's configuration is read strictly; every mistake is named."""

import json
import math
from operator import attrgetter

import pytest

from trainer.rlhf.config import RANGES, ConfigError, RunConfig, parse, read_config


def test_it_fills_what_is_absent_and_reads_what_is_nested():
    config = parse(RunConfig, {"base_model": "b", "ppo": {"kl": {"coef": 1}}, "lora": None})
    assert config.ppo.kl.coef == 1.0
    assert config.ppo.samples == RunConfig("b").ppo.samples
    assert config.lora is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "base_model: is missing"),
        ({"base_model": "b", "sead": 1}, "sead: unknown key"),
        ({"base_model": "b", "ppo": {"kl": {"cof": 1}}}, r"ppo\.kl\.cof: unknown key; known are coef"),
        ({"base_model": "b", "seed": "1"}, "seed: must be a whole number, not '1'"),
        ({"base_model": "b", "seed": True}, "seed: must be a whole number, not True"),
        ({"base_model": "b", "dtype": "fp8"}, "dtype: must be one of auto, float32, bfloat16, not 'fp8'"),
        ({"base_model": "b", "ppo": 3}, "ppo: must be an object"),
        ({"base_model": "b", "ppo": {"score": {"is_dense": 1}}}, r"ppo\.score\.is_dense: must be true or false"),
    ],
)
def test_it_names_the_key_that_is_wrong(record, message):
    with pytest.raises(ConfigError, match=message):
        parse(RunConfig, record)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ppo.temperature", -1, "ppo.temperature: must be above 0, not -1"),
        ("ppo.updates", 0, "ppo.updates: must be at least 1, not 0"),
        ("ppo.learning_rate", float("nan"), "ppo.learning_rate: must be a finite number, not nan"),
        ("ppo.kl.coef", float("inf"), "ppo.kl.coef: must be a finite number, not inf"),
        ("reward.label_smoothing", 0.5, "reward.label_smoothing: must be at most 0.49, not 0.5"),
        ("lora.r", 0, "lora.r: must be at least 1, not 0"),
        ("seed", -1, "seed: must be at least 0, not -1"),
        ("max_prompt_tokens", 0, "max_prompt_tokens: must be at least 1, not 0"),
    ],
)
def test_it_names_the_key_whose_number_is_out_of_range(key, value, message):
    with pytest.raises(ConfigError) as caught:
        parse(RunConfig, with_value(key, value))
    assert str(caught.value) == message


@pytest.mark.parametrize("key", RANGES)
def test_it_takes_its_own_defaults_and_the_ends_of_every_range_that_exists(key):
    least, most, is_open = RANGES[key]
    default = attrgetter(key)(RunConfig("b"))
    for value in (default, least, most):
        if value is not None and math.isfinite(value) and not (is_open and value == least):
            parse(RunConfig, with_value(key, value))
    for value in (least - 1, most + 1):
        if math.isfinite(value):
            with pytest.raises(ConfigError, match=key):
                parse(RunConfig, with_value(key, value))


@pytest.mark.parametrize("value", [0, -0.5])
def test_rao_kupper_needs_room_for_ties_and_davidson_takes_any(value):
    """theta^2 - 1 is the factor of a tie's probability; nu may well be below 1."""
    record = {"base_model": "b", "reward": {"ties": "davidson", "tie_parameter": value}}
    assert parse(RunConfig, record).reward.tie_parameter == value
    record["reward"]["ties"] = "rao_kupper"
    with pytest.raises(ConfigError, match=f"^reward.tie_parameter: must be above 0, not {float(value)}$"):
        parse(RunConfig, record)


def with_value(key: str, value: float) -> dict:
    """A whole record with one value, nested where the key has dots."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return {"base_model": "b"} | value


def test_it_refuses_other_formats_and_what_is_no_json(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"base_model": "b", "format": 2}))
    with pytest.raises(ConfigError, match="reads format 1, not 2"):
        read_config(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="config.json is not JSON"):
        read_config(path)
    path.write_text('{"base_model": "b"}', encoding="utf-8-sig")
    assert read_config(path) == RunConfig("b")


def test_full_weights_are_trained_in_fp32_unless_told_otherwise():
    assert RunConfig("b").training_dtype == "auto"
    assert RunConfig("b", lora=None).training_dtype == "float32"
    assert RunConfig("b", lora=None, dtype="bfloat16").training_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("settings", "updates"),
    [
        ({}, 0),
        ({"critic": {"pretrain_steps": 0}, "updates": 30}, 3),
        ({"critic": {"pretrain_steps": 0}, "updates": 4}, 1),
        ({"critic": {"pretrain_steps": 0}, "warmup_updates": 0}, 0),
        ({"warmup_updates": 5}, 5),
    ],
)
def test_ppo_warms_up_where_the_critic_is_not_pre_trained_unless_told_otherwise(settings, updates):
    assert parse(RunConfig, {"base_model": "x", "ppo": settings}).ppo.warmup == updates
