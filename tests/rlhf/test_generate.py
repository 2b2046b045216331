"""The generate command: completions of prompts as lines, alike for one seed, and as rankings that nobody made yet."""

import json

import pytest

from tests.rlhf.run_folders import make_run
from trainer.rlhf.__main__ import main
from trainer.rlhf.data import read_rankings


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


def test_it_makes_no_ranking_of_one(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path / "run", tiny_base)
    with pytest.raises(SystemExit):
        generated(folder, tmp_path / "u.jsonl", "--unranked")
    assert "at least two --samples" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        generated(folder, tmp_path / "u.jsonl", "--samples", "0")
    assert "--samples must be 1 or more" in capsys.readouterr().err
