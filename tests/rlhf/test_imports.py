"""Preference data of other projects: what files it comes in, what its records say, and what is left out."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest
from pyarrow.parquet import write_table

from trainer.rlhf.data import DataError, read_rankings
from trainer.rlhf.imports import from_hh, from_moss, from_pandalm, from_scored, from_trl, main, write_rankings

PAIR = {"prompt": "p", "chosen": "a", "rejected": "b"}
HH = "\n\nHuman: Hi\n\nAssistant:"


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


def turns(*contents):
    """A conversation, the person first."""
    return [{"role": ("user", "assistant")[place % 2], "content": said} for place, said in enumerate(contents)]


@pytest.mark.parametrize(
    ("reader", "record"),
    [
        (from_trl, PAIR | {"rejected": None}),
        (from_trl, PAIR | {"chosen": None, "rejected": turns("p", "b")}),
        (from_trl, {"chosen": turns("p", "a"), "rejected": turns("p", None)}),
        (from_trl, PAIR | {"chosen": " "}),
        (from_trl, PAIR | {"rejected": "a\n"}),
        (from_trl, PAIR | {"prompt": ""}),
        (from_trl, PAIR | {"prompt": None}),
        (from_trl, {"chosen": turns(" ", "a"), "rejected": turns(" ", "b")}),
        (from_trl, {"chosen": "p a", "rejected": "p a "}),
        (from_trl, {"chosen": "", "rejected": "p a"}),
        (from_trl, PAIR | {"score_chosen": 8.0, "score_rejected": 8.0}),
        (from_hh, {"chosen": f"{HH} a", "rejected": None}),
        (from_hh, {"chosen": f"{HH} a", "rejected": ""}),
        (from_hh, {"chosen": "\n\nHuman:\n\nAssistant: a", "rejected": "\n\nHuman:\n\nAssistant: b"}),
        (from_moss, {"chosen": None, "rejected": ["p", "b"]}),
        (from_moss, {"chosen": ["p", "a"], "rejected": ["p", None]}),
        (from_moss, {"chosen": ["p", "a"], "rejected": ["p", "a "]}),
        (from_moss, {"chosen": [" ", "a"], "rejected": [" ", "b"]}),
    ],
)
def test_it_skips_what_says_nothing_or_the_same_twice(reader, record):
    assert list(reader([record])) == []


def test_what_is_skipped_ends_no_import(tmp_path, capsys):
    source = write_lines(tmp_path / "trl.jsonl", PAIR | {"rejected": None}, PAIR)
    assert main(["trl", source, str(tmp_path / "rankings.jsonl")]) == 0
    assert "1 rankings written, 1 records without a preference skipped" in capsys.readouterr().out


def test_a_missing_field_is_no_missing_answer():
    with pytest.raises(DataError, match="record 1, field “rejected”: is missing"):
        list(from_trl([{"prompt": "p", "chosen": "a"}]))


@pytest.mark.parametrize(
    ("said", "strength"),
    [
        ({"score_chosen": 8.5, "score_rejected": 6.0}, 2.5),
        ({"score_chosen": 8.5, "score_rejected": 6.0, "margin": 1}, 1.0),
        ({"score_chosen": 2, "score_rejected": 6}, 0.0),
        ({"score_chosen": 2, "score_rejected": None}, None),
    ],
)
def test_how_far_the_scores_lie_apart_is_the_strength(said, strength):
    (ranking,) = from_trl([PAIR | said])
    assert ranking.strength == strength


def test_a_score_that_is_no_number_is_named():
    with pytest.raises(DataError, match="record 1, field “score_chosen”: must be a finite number"):
        list(from_trl([PAIR | {"score_chosen": "8", "score_rejected": 1}]))


def test_turns_of_one_speaker_of_hh_are_one():
    """Many a chat template refuses two of the person's running."""
    start = (
        "\n\nHuman: Hi\n\nHuman: Are you there?\n\nAssistant: Yes.\n\nAssistant: And you?\n\nHuman: Here.\n\nAssistant:"
    )
    (ranking,) = from_hh([{"chosen": f"{start} a", "rejected": f"{start} b\n\nAssistant: c"}])
    assert ranking.prompt == turns("Hi\n\nAre you there?", "Yes.\n\nAnd you?", "Here.")
    assert [completion.text for completion in ranking.completions] == ["a", "b\n\nc"]


@pytest.mark.parametrize(
    ("before", "system"), [("", []), ("\n", []), ("Be brief.\n\n", [{"role": "system", "content": "Be brief."}])]
)
def test_hh_may_begin_without_blank_lines_or_with_a_system_message(before, system):
    start = before + HH.lstrip()
    (ranking,) = from_hh([{"chosen": f"{start} a", "rejected": f"{start} b"}])
    assert ranking.prompt == system + turns("Hi")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": HH, "chosen": " a", "rejected": " b"},
        {"prompt": f"{HH.lstrip()} ", "chosen": "a", "rejected": "b"},
        {"chosen": f"{HH} a", "rejected": f"{HH} b"},
    ],
)
def test_texts_of_trl_that_are_transcripts_are_read_as_hh(record):
    (ranking,) = from_trl([record])
    assert ranking.prompt == turns("Hi")
    assert [completion.text for completion in ranking.completions] == ["a", "b"]
    assert ranking.id == next(from_hh([{"chosen": f"{HH} a", "rejected": f"{HH} b"}])).id


def test_a_prompt_that_only_speaks_of_a_transcript_stays_one_turn():
    prompt = "Human: and Assistant: are HH's marks. Why?"
    (ranking,) = from_trl([PAIR | {"prompt": prompt}])
    assert ranking.prompt == turns(prompt)


def test_texts_of_trl_imply_the_words_that_both_begin_with():
    (ranking,) = from_trl([{"chosen": "The sky is black.", "rejected": "The sky is blue."}])
    assert ranking.prompt == turns("The sky is")
    assert [completion.text for completion in ranking.completions] == ["black.", "blue."]
    with pytest.raises(DataError, match="record 1, field “prompt”: is missing, and the texts begin with no word in"):
        list(from_trl([{"chosen": "black", "rejected": "blue"}]))


def pandalm_record(votes, **fields):
    said = {f"annotator{number}": vote for number, vote in enumerate(votes, start=1)}
    return {"instruction": "Shorten.", "input": "A lot.", "response1": "a", "response2": "b"} | said | fields


@pytest.mark.parametrize(
    ("votes", "texts"), [((1, 1, 0), ["a", "b"]), ((2, 1, 2), ["b", "a"]), ((1, 2, 0), None), ((0, 1, 0), None)]
)
def test_what_two_of_three_annotators_of_pandalm_say_counts(votes, texts):
    found = [[completion.text for completion in each.completions] for each in from_pandalm([pandalm_record(votes)])]
    assert found == ([texts] if texts else [])


def test_an_instruction_of_pandalm_is_one_prompt_whatever_its_input():
    records = [pandalm_record((1, 1, 1), input=given) for given in ("A lot.", "", None)]
    rankings = list(from_pandalm(records))
    assert [ranking.prompt for ranking in rankings] == [turns("Shorten.\n\nA lot."), *[turns("Shorten.")] * 2]
    assert {ranking.prompt_id for ranking in rankings} == {hashlib.sha256(b"Shorten.").hexdigest()[:12]}
    assert len({ranking.id for ranking in rankings}) == 3


def test_pandalm_has_answers_that_json_made_truth_values_of(tmp_path):
    source = tmp_path / "testset.json"
    source.write_text(
        json.dumps([pandalm_record((1, 1, 0), response1=True), pandalm_record((1, 1, 1), response2=" a")])
    )
    assert main(["pandalm", str(source), str(tmp_path / "rankings.jsonl")]) == 0
    (ranking,) = read_rankings(tmp_path / "rankings.jsonl")
    assert [completion.text for completion in ranking.completions] == ["True", "b"]


def test_it_names_what_a_record_of_pandalm_lacks():
    with pytest.raises(DataError, match="record 1, field “annotator3”: is missing"):
        list(from_pandalm([pandalm_record((1, 1))]))
    with pytest.raises(DataError, match="record 1, field “response1”: must be a string"):
        list(from_pandalm([pandalm_record((1, 1, 1), response1=["a"])]))


def scored_record(*scores, text="response", score="overall_score", prompt="instruction"):
    completions = [{text: said, score: value} for said, value in zip("abcde", scores, strict=False)]
    return {prompt: "p", "completions": completions}


def test_it_ranks_what_ultrafeedback_scored(tmp_path):
    source = write_lines(tmp_path / "train.jsonl", scored_record(6.5, 9.0, 2, 6.5), scored_record(5, 5, 5))
    assert main(["scored", source, str(tmp_path / "rankings.jsonl")]) == 0
    (ranking,) = read_rankings(tmp_path / "rankings.jsonl")
    assert ranking.prompt == turns("p")
    assert [completion.text for completion in ranking.completions] == ["b", "a", "d", "c"]
    assert (ranking.ranks, ranking.strength) == ((1, 2, 2, 4), 2.5)


@pytest.mark.parametrize(
    ("record", "texts", "strength"),
    [
        (scored_record(2, 1, 3, text="text", score="rank", prompt="prompt"), ["b", "a", "c"], None),
        (scored_record(0, -1, score="score"), ["a", "b"], 1.0),
        (scored_record(1, 4.5, score="fine-grained_score"), ["b", "a"], 3.5),
        (scored_record(1, None, 2), ["c", "a"], 1.0),
    ],
)
def test_scores_and_ranks_go_by_several_names(record, texts, strength):
    (ranking,) = from_scored([record])
    assert [completion.text for completion in ranking.completions] == texts
    assert ranking.strength == strength


def test_it_leaves_out_completions_that_are_empty_or_there_already():
    record = scored_record(3, 2, 1)
    record["completions"] += [{"response": " ", "overall_score": 9}, {"response": "a ", "overall_score": 0}]
    (ranking,) = from_scored([record])
    assert [completion.text for completion in ranking.completions] == ["a", "b", "c"]
    assert list(from_scored([scored_record(), scored_record(1), scored_record(1, 2) | {"instruction": ""}])) == []


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"completions": []}, "record 1, field “instruction”: is missing"),
        ({"prompt": "p", "completions": "a"}, "record 1, field “completions”: must be a list of"),
        (scored_record(1, 2, score="stars"), "record 1, field “completions”: have none of rank, score, overall_score"),
        (scored_record(1, "2"), "record 1, completion 2, field “overall_score”: must be a finite number"),
        (scored_record(1, 2, text="words"), "record 1, completion 1, field “response”: is missing"),
    ],
)
def test_it_names_what_a_scored_record_lacks(record, words):
    with pytest.raises(DataError, match=words):
        list(from_scored([record]))
