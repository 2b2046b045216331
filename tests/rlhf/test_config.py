"""The run's configuration is read strictly; every mistake is named."""

import json

import pytest

from trainer.rlhf.config import ConfigError, RunConfig, parse, read_config


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


def test_it_refuses_other_formats_and_what_is_no_json(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"base_model": "b", "format": 2}))
    with pytest.raises(ConfigError, match="reads format 1, not 2"):
        read_config(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="config.json is not JSON"):
        read_config(path)


def test_full_weights_are_trained_in_fp32_unless_told_otherwise():
    assert RunConfig("b").training_dtype == "auto"
    assert RunConfig("b", lora=None).training_dtype == "float32"
    assert RunConfig("b", lora=None, dtype="bfloat16").training_dtype == "bfloat16"
