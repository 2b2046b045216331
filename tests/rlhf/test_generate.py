"""The generate command: completions of prompts as lines, alike for one seed, and as rankings that nobody made yet."""

import json

import pytest
import torch

from tests.rlhf.run_folders import make_run
from tests.tiny_models import make_llama
from trainer.rlhf.__main__ import main
from trainer.rlhf.config import LoraConfig
from trainer.rlhf.data import read_rankings
from trainer.rlhf.policy import load_policy


def generated(folder, out, *options: str) -> list[dict]:
    assert main(["generate", str(folder.path), "--out", str(out), *options]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_it_writes_a_line_for_each_sample_and_the_same_ones_for_the_same_seed(tmp_path, tiny_base):
    folder = make_run(tmp_path / "run", tiny_base)
    lines = generated(folder, tmp_path / "a.jsonl", "--split", "held_out", "--samples", "3")
    assert [line["prompt_id"] for line in lines] == ["3"] * 3 + ["7"] * 3
    assert len({line["completion"] for line in lines}) > 3
    assert all(len(line["token_ids"]) <= 6 and line["logprob"] < 0 for line in lines)
    assert generated(folder, tmp_path / "b.jsonl", "--split", "held_out", "--samples", "3") == lines
    other = generated(folder, tmp_path / "c.jsonl", "--split", "held_out", "--samples", "3", "--seed", "2")
    assert [line["completion"] for line in other] != [line["completion"] for line in lines]


@pytest.mark.parametrize("samples", [2, 4])
def test_it_writes_rankings_that_say_nothing_yet(tmp_path, tiny_base, samples):
    folder = make_run(tmp_path / "run", tiny_base)
    plain = generated(folder, tmp_path / "a.jsonl", "--split", "train", "--samples", str(samples))
    generated(folder, tmp_path / "u.jsonl", "--split", "train", "--samples", str(samples), "--unranked")
    rankings = read_rankings(tmp_path / "u.jsonl")
    assert [ranking.ranks for ranking in rankings] == [(1,) * samples] * 6
    texts = [completion.text for ranking in rankings for completion in ranking.completions]
    assert texts == [line["completion"] for line in plain]
    ids = [list(completion.token_ids) for ranking in rankings for completion in ranking.completions]
    assert ids == [line["token_ids"] for line in plain]


def test_it_makes_no_ranking_of_one(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path / "run", tiny_base)
    with pytest.raises(SystemExit):
        generated(folder, tmp_path / "u.jsonl", "--unranked")
    assert "at least two --samples" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        generated(folder, tmp_path / "u.jsonl", "--samples", "0")
    assert "--samples must be 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--temperature", "-1", "--temperature: must be a finite number from 0"),
        ("--temperature", "nan", "--temperature: must be a finite number from 0"),
        ("--temperature", "warm", "--temperature: must be a finite number from 0"),
        ("--top-p", "0", "--top-p: must be above 0 and at most 1"),
        ("--top-p", "2", "--top-p: must be above 0 and at most 1"),
    ],
)
def test_it_refuses_settings_out_of_range(tmp_path, tiny_base, capsys, option, value, words):
    folder = make_run(tmp_path / "run", tiny_base)
    with pytest.raises(SystemExit):
        generated(folder, tmp_path / "a.jsonl", option, value)
    assert words in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_it_writes_with_the_newest_policy_of_the_run_and_says_which(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path / "run", tiny_base, max_completion_tokens=2)
    assert main(["generate", str(folder.path), "--out", str(tmp_path / "base.jsonl")]) == 0
    policy = load_policy(tiny_base, dtype="float32", device="cpu")
    policy.new_adapter("policy", LoraConfig(r=2, alpha=4), seed=1)
    for parameter in policy.adapter_parameters("policy").values():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(1))
    policy.save_adapter("policy", folder.stage("sft") / "policy", {})
    assert main(["generate", str(folder.path), "--out", str(tmp_path / "sft.jsonl")]) == 0
    policy.save_adapter("policy", folder.stage("ppo") / "policy", {})
    assert main(["generate", str(folder.path), "--out", str(tmp_path / "ppo.jsonl")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("generate: ")]
    writers = [f"the base, {tiny_base}", folder.path / "sft" / "policy", folder.path / "ppo" / "policy"]
    assert said == [f"generate: written by {writer}" for writer in writers]
    written = [(tmp_path / f"{name}.jsonl").read_text() for name in ("base", "sft", "ppo")]
    assert written[0] != written[1] == written[2]


def test_it_writes_with_one_model(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path / "run", tiny_base)
    with pytest.raises(SystemExit):
        generated(folder, tmp_path / "a.jsonl", "--base", "--checkpoint", str(tmp_path))
    assert "not allowed with" in capsys.readouterr().err


def test_it_says_that_no_prompt_is_of_the_split_that_was_asked_for(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path / "run", tiny_base, prompts=3)  # every fourth is held out
    out = tmp_path / "a.jsonl"
    assert main(["generate", str(folder.path), "--out", str(out), "--split", "held_out"]) == 1
    assert "prompts.jsonl has no prompt of the split “held_out”" in capsys.readouterr().err
    (folder.path / "prompts.jsonl").write_text("")
    assert main(["generate", str(folder.path), "--out", str(out)]) == 1
    assert capsys.readouterr().err.endswith("prompts.jsonl has no prompt\n")
    assert not out.exists()


def test_it_refuses_a_policy_of_another_base(tmp_path, tiny_base, capsys):
    folder, other = make_run(tmp_path / "run", tiny_base), make_llama(tmp_path / "other")
    (other / "generation_config.json").write_text("{}")
    policy = load_policy(other, dtype="float32")
    policy.new_adapter("policy", LoraConfig(r=2), seed=1)
    policy.save_adapter("policy", tmp_path / "adapter", {"base": str(other)})
    command = ["generate", str(folder.path), "--out", str(tmp_path / "a.jsonl"), "--checkpoint"]
    assert main([*command, str(tmp_path / "adapter")]) == 1
    assert f"adapter was trained on the base {other}, and not on that of this run" in capsys.readouterr().err
