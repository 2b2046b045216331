"""Rankings that stay on disk are those that a list would hold, in 8 bytes each."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from trainer.rlhf import ranking_file
from trainer.rlhf.data import DataError, read_rankings
from trainer.rlhf.ranking_file import Chosen, RankingFile, sizes_of


def line(number: int, k: int = 3) -> str:
    completions = [{"id": str(place), "text": f"äußerst {number}"} for place in range(k)]
    prompt = [{"role": "user", "content": f"雨 {number}?"}]
    record = {"id": str(number), "prompt": prompt, "completions": completions, "ranks": list(range(1, k + 1))}
    return json.dumps(record, ensure_ascii=number % 2 == 0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "rankings.jsonl"
    path.write_bytes("\r\n".join([line(0), "", line(1, k=2), line(2), "  ", line(3, k=5)]).encode())
    return path


def test_it_gives_the_rankings_that_a_list_has(path):
    there, held = RankingFile(path), read_rankings(path)
    assert len(there) == 4 and list(there) == held
    assert [there[place] for place in (3, 0, -1)] == [held[place] for place in (3, 0, -1)]
    assert there[1:3] == held[1:3] and there[2:99] == held[2:]
    assert sizes_of(there).tolist() == [3, 2, 3, 5]
    with pytest.raises(IndexError):
        there[4]


def test_it_gives_chosen_ones_in_their_order(path):
    held = read_rankings(path)
    chosen = Chosen(Chosen(RankingFile(path), np.array([3, 1, 0])), np.array([2, 0]))
    assert list(chosen) == [held[0], held[3]] and chosen[1:] == [held[3]] and len(chosen) == 2


def test_it_names_the_line_that_is_none(path):
    path.write_text(f"{line(0)}\n\n{line(1)[:-9]}\n")
    with pytest.raises(DataError, match="rankings.jsonl, line 3: not JSON"):
        RankingFile(path)


def test_it_names_both_lines_of_an_id_that_two_rankings_have(path):
    path.write_text("\n".join([line(0), line(1), "", line(2), line(1, k=2), line(0)]))
    with pytest.raises(DataError, match="^rankings.jsonl, line 5, field “id”: line 2 has the id 1 too$"):
        RankingFile(path)


def test_it_takes_ids_whose_hashes_alone_are_the_same(path):
    """hash() of a text cannot be foreseen, but 8 bytes of it may be those of another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking_file, "hash", lambda text: 7, raising=False)
        assert len(RankingFile(path)) == 4


def test_it_holds_a_few_bytes_a_ranking(tmp_path):
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(line(number) + "\n" for number in range(4000)))
    RankingFile(path)
    tracemalloc.start()
    rankings = RankingFile(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 16 * len(rankings) + 20_000
