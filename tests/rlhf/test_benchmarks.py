"""What the benchmarks measure by: one rule for both sides, on one device."""

import json
import math
import os
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.default_base import SHAPES, ensure_base, shaped, use_device
from bench.own_rankings import (
    checked_rankings,
    chosen_folds,
    closed,
    deal,
    recipe,
    refuse_folds_without_a_pair,
)
from bench.peak import peak_gb
from bench.processor import shares_by_kind
from bench.reward import flops_of, our_child
from bench.reward_scaling import run_piece
from bench.right_pairs import right_pairs, wins
from tests.rlhf.test_reward_training import write_run
from trainer.rlhf.data import Completion, Ranking
from trainer.rlhf.flops import Work
from trainer.rlhf.pairs import pairs_of
from trainer.rlhf.policy import best_device

ASK = "from bench.peak import peak_gb; print(peak_gb())"
FILL_AND_ASK = "block = bytearray(300 << 20); from bench.peak import peak_gb; print(peak_gb())"


def test_equal_scores_are_right_by_half():
    assert right_pairs([2.0, 1.0, 1.0, 0.0], [1, 2, 3, 3], "abcd") == (4.5, 5)  # of 2-1, 2-1, 2-0, 1=1, 1-0
    assert right_pairs([0.0, 1.0], [1, 2], "ab") == (0.0, 1)
    assert right_pairs([0.0, 1.0], [1, 1], "ab") == (0.0, 0)


def test_it_counts_the_pairs_that_our_report_counts():
    ranks, texts = (1, 2, 3, 2), ["a", "b", "a", "c"]
    completions = tuple(Completion(str(place), text) for place, text in enumerate(texts))
    ours = pairs_of([Ranking("r", "p", [], completions, ranks)], ties="drop")
    assert wins(ranks, texts) == [(0, 1), (0, 3), (1, 2), (3, 2)]
    assert sorted(zip(ours.winner.tolist(), ours.loser.tolist(), strict=True)) == wins(ranks, texts)
    assert right_pairs([1.0, 0.0, 1.0, 0.0], ranks, texts) == (2.0, 4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a child's count starts at its parent's")
def test_a_peak_has_no_floor_of_the_one_who_started_it():
    block = bytearray(300 << 20)
    small, large = (
        float(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout)
        for code in (ASK, FILL_AND_ASK)
    )
    assert len(block) == 300 << 20 and peak_gb() > 0.3
    assert small < 0.1
    assert 0.29 < large - small < 0.32


def test_a_peak_is_read_in_the_units_of_each_system(monkeypatch, tmp_path):
    status = tmp_path / "status"
    monkeypatch.setattr("bench.peak.STATUS", status)
    usage = type("Usage", (), {"ru_maxrss": 3 * 2**30})
    monkeypatch.setattr("resource.getrusage", lambda who: usage)
    monkeypatch.setattr("sys.platform", "darwin")
    assert peak_gb() == 3.0
    monkeypatch.setattr("sys.platform", "freebsd14")
    usage.ru_maxrss = 3 * 2**20
    assert peak_gb() == 3.0
    status.write_text("Name:\tpython\nVmHWM:\t 1048576 kB\n")
    assert peak_gb() == 1.0
    status.write_text("Name:\tpython\n")
    assert peak_gb() == 3.0, "of a system that does not count it"
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 2**31)
    assert peak_gb("cuda") == 2.0


def test_a_benchmark_finds_the_device_it_was_told_and_no_better_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device().type == "mps"
    use_device("mps")
    with pytest.raises(SystemExit, match="--device cuda"):
        use_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    use_device("cpu")
    assert best_device().type == "cpu"


@pytest.mark.parametrize(("visible", "first"), [(None, "0"), ("3,1", "3"), ("GPU-8a", "GPU-8a"), ("", "")])
def test_a_benchmark_on_gpus_uses_the_first_alone(monkeypatch, visible, first):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # what was there comes back
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    os.environ.pop("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    use_device("cuda")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == first


def test_shares_are_of_the_processor_and_of_nothing_else():
    assert "%" in shares_by_kind(lambda: torch.ones(400, 400) @ torch.ones(400, 400), "cpu")
    assert "measured on a processor, and this ran on cuda" in shares_by_kind(None, "cuda")


def test_a_stage_that_is_killed_has_no_peak_of_an_earlier_piece(tmp_path, monkeypatch):
    (tmp_path / "peak").write_text("1.0")
    killed = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    popen = subprocess.Popen
    monkeypatch.setattr("subprocess.Popen", lambda _command, **options: popen(killed, **options))
    with pytest.raises(SystemExit, match=r"was killed \(exit code -9\): out of memory"):
        run_piece(tmp_path, "cpu", None)


def test_ours_is_given_the_texts_that_trl_is_given():
    completions = [{"id": "1", "text": "a", "token_ids": [5, 2]}, {"id": "2", "text": "b"}]
    ranking = {"id": "r", "completions": completions, "ranks": [1, 2]}
    assert closed(ranking) == {**ranking, "completions": [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]}


def test_a_stage_ends_as_it_does_alone_and_leaves_its_peak(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base)
    command = [sys.executable, "-m", "bench.stage", "cpu", str(tmp_path / "peak"), "reward"]
    assert subprocess.run([*command, str(run.path)], stdout=subprocess.DEVNULL).returncode == 0
    assert run.product("reward").exists()
    assert 0.1 < float((tmp_path / "peak").read_text()) < 4
    (tmp_path / "peak").unlink()
    (run.path / "config.json").write_text(json.dumps({"base_model": "nowhere"}))
    assert subprocess.run([*command, str(run.path)], stderr=subprocess.DEVNULL).returncode == 1
    assert (tmp_path / "peak").exists()


def test_a_run_that_fails_says_why(capfd):
    options = Namespace(base="./nowhere", device="cpu", dtype="float32", rankings=1, held_out=1, rankings_per_step=1)
    with pytest.raises(subprocess.CalledProcessError):
        our_child(options, "probe", seed=1)
    assert "there is no model in" in capfd.readouterr().err


@pytest.mark.parametrize(("mode", "times"), [("probe", 1), ("lora", 2), ("full", 3)])
def test_it_counts_what_multiplies_and_not_the_embeddings(tiny_base, mode, times):
    """A layer has q, o (size x size), k, v (size x keys), three of the MLP; attention is 4 x layers x size a pair."""
    config = json.loads((tiny_base / "config.json").read_text())
    layers, size, width = config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]
    keys = size * config["num_key_value_heads"] // config["num_attention_heads"]
    trunk = layers * (2 * size * size + 2 * size * keys + 3 * size * width)
    adapter = layers * 16 * (2 * 2 * size + 2 * (size + keys) + 3 * (size + width)) if mode == "lora" else 0
    attention = 4 * layers * size * (1 if mode == "probe" else 3)
    found = flops_of(tiny_base, mode, Work(tokens=10, pairs=55, predicted=0))
    assert math.isclose(found, 2 * (times * trunk + 3 * adapter) * 10 + attention * 55)


def test_folds_are_those_that_were_asked_for():
    assert chosen_folds(4, None, []) == [1, 2, 3, 4]
    assert chosen_folds(5, [4, 3], [4]) == [3, 4]
    with pytest.raises(SystemExit, match="numbered from 1 to 4"):
        chosen_folds(4, [0, 1], [])
    with pytest.raises(SystemExit, match="among the folds"):
        chosen_folds(4, [1], [2])


def test_a_base_that_is_not_there_is_not_the_default_model(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.base_model.prepare_base_model", lambda folder: pytest.fail(f"made {folder}"))
    with pytest.raises(SystemExit, match="there is no such folder"):
        ensure_base(tmp_path / "Qwen" / "Qwen3-0.6B")


@pytest.mark.parametrize(("name", "billions"), [("llama-0.5b", 0.5), ("llama-1.5b", 1.5)])
def test_the_bases_for_a_gpu_have_the_parameters_of_their_names(name, billions):
    config = LlamaConfig(vocab_size=49_152, tie_word_embeddings=True)  # the default model's
    with torch.device("meta"):
        model = LlamaForCausalLM(shaped(config, *SHAPES[Path("var/bench") / name]))
    assert sum(each.numel() for each in model.parameters()) == pytest.approx(billions * 1e9, rel=0.05)


def ranking_of(prompt, ranks):
    """A line of rankings.jsonl on a prompt of that id."""
    completions = [{"text": str(place)} for place in range(len(ranks))]
    prompt_text = [{"role": "user", "content": f"Say {prompt}"}]
    return {"id": f"r{prompt}", "prompt_id": prompt, "prompt": prompt_text, "completions": completions, "ranks": ranks}


def test_own_rankings_are_dealt_by_prompt_and_checked_before_the_hours_of_training(tmp_path):
    rankings = [ranking_of(prompt, [1, 2]) for prompt in (1, "b", "c", "d", 1)]
    dealt = deal(rankings, 2, seed=1)
    assert sorted(dealt[:4]) == [1, 1, 2, 2] and dealt[4] == dealt[0]
    by_row = [ranking_of(prompt, [1, 2]) | {"prompt_id": row} for row, prompt in enumerate([*"abcd"] * 5, start=1)]
    folds = deal(by_row, 2, seed=1)
    assert folds == folds[:4] * 5 and sorted(folds[:4]) == [1, 1, 2, 2], "the same words in one fold, whatever the id"
    with pytest.raises(SystemExit, match="fold 1 has no ranking|beside fold 1 fewer than two"):
        refuse_folds_without_a_pair(by_row[::4], [1, 2, 2, 2, 2], [1])
    with pytest.raises(SystemExit, match="4 prompts cannot be dealt to 5 folds"):
        deal(rankings, 5, seed=1)
    with pytest.raises(SystemExit, match="4 prompts cannot be dealt to 1 folds"):
        deal(rankings, 1, seed=1)
    refuse_folds_without_a_pair(rankings, dealt, [1, 2])
    tied = [ranking_of(prompt, [1, 1] if prompt == "d" else [1, 2]) for prompt in "abcd"]
    refuse_folds_without_a_pair(tied, [1, 2, 3, 4], [1, 2])
    with pytest.raises(SystemExit, match="fold 4 has no ranking with a preference"):
        refuse_folds_without_a_pair(tied, [1, 2, 3, 4], [2, 4])
    refuse_folds_without_a_pair(tied, [1, 2, 2, 1], [1])
    with pytest.raises(SystemExit, match="beside fold 2 fewer than two prompts have a preference"):
        refuse_folds_without_a_pair(tied, [1, 2, 2, 1], [1, 2])
    path = tmp_path / "rankings.jsonl"
    with pytest.raises(SystemExit, match="rankings.jsonl: No such file"):
        checked_rankings(path)
    path.write_text(json.dumps(tied[0]) + "\n\n" + json.dumps(tied[1]) + "\n")
    assert checked_rankings(path) == tied[:2]
    path.write_text(json.dumps(tied[0] | {"ranks": [1]}))
    with pytest.raises(SystemExit, match="rankings.jsonl, line 1, field “ranks”: 1 ranks for 2 completions"):
        checked_rankings(path)


def test_a_recipe_is_checked_before_anything_is_trained():
    assert recipe('{"judge_share": 0.0}') == {"judge_share": 0.0}
    for wrong, words in (
        ('{"jugde_share": 0}', "reward.jugde_share: unknown key"),
        ("{", "Expecting"),
        ("[]", "reward: "),
    ):
        with pytest.raises(ArgumentTypeError, match=words):
            recipe(wrong)
