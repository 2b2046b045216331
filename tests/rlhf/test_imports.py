"""Preference data of other projects: what files it comes in, what its records say, and what is left out."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from trainer.rlhf.data import read_rankings
from trainer.rlhf.imports import main, write_rankings

PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}


def write_lines(path, *records):
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return str(path)


def test_it_imports_parquet(tmp_path, capsys):
    turns = [{"content": answer, "role": "assistant"} for answer in "ab"]
    rows = [{"prompt": "p", "chosen": turns[:1], "rejected": turns[1:], "margin": 2.0}] * 2
    write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert main(["trl", str(tmp_path / "train.parquet"), str(tmp_path / "rankings.jsonl")]) == 0
    first, second = read_rankings(tmp_path / "rankings.jsonl")
    assert [completion.text for completion in first.completions] == ["a", "b"]
    assert (first.strength, second.id) == (2.0, f"{first.id}-2")
    write_table(pa.Table.from_pylist([PAIR, PAIR | {"chosen": None}, PAIR]).drop_columns("rejected"), tmp_path / "t")
    assert main(["trl", str(tmp_path / "t"), str(tmp_path / "rankings.jsonl")]) == 1
    assert "t, row 1, field “rejected”: is missing" in capsys.readouterr().err


def test_it_names_a_parquet_file_that_is_cut_short(tmp_path, capsys):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    assert main(["trl", str(tmp_path / "train.parquet"), str(tmp_path / "rankings.jsonl")]) == 1
    assert "train.parquet: not to be read as Parquet (" in capsys.readouterr().err


def test_it_keeps_a_published_test_split(tmp_path):
    """A record that stands in both files is told apart, as within one."""
    train = write_lines(tmp_path / "train.jsonl", PAIR, PAIR | {"prompt": "q", "split": "held_out"})
    test = write_lines(tmp_path / "test.jsonl", PAIR | {"prompt": "r"}, PAIR)
    assert main(["trl", train, str(tmp_path / "rankings.jsonl"), "--held-out", test]) == 0
    rankings = read_rankings(tmp_path / "rankings.jsonl")
    assert [ranking.split for ranking in rankings] == ["train", "train", "held_out", "held_out"]
    assert [ranking.prompt[0]["content"] for ranking in rankings] == ["p", "q", "r", "p"]
    assert len({ranking.id for ranking in rankings}) == 4


def test_an_import_that_breaks_off_leaves_what_was_there(tmp_path):
    """A disk that is full, say."""
    path = tmp_path / "rankings.jsonl"
    path.write_text("before")

    def rankings():
        yield from ()
        raise OSError

    with pytest.raises(OSError):
        write_rankings(rankings(), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
