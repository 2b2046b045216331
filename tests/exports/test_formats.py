"""What stands in each export, against records written by hand, and how the files are made."""

import gc
import io
import json

import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from annotate.errors import WrongFilter
from annotate.exports import FORMATS, export_chunks
from annotate.exports.download import export_response
from annotate.exports.files import FILE_TYPES
from annotate.exports.pairs import transcript, turns
from annotate.models import Comparison, Demonstration, Prompt, Ranking
from annotate.preferences import PreferenceFilters
from annotate.services.rankings import keep_better_answer
from annotate.services.snapshots import freeze_preferences, withdraw_annotator
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking
from trainer.rlhf.data import read_demonstrations, read_rankings
from trainer.rlhf.imports import READERS

pytestmark = pytest.mark.django_db
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "How are you?"},
]


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def pool():
    return make_pool(make_policy())


@pytest.fixture
def prompt(pool):
    return make_prompt(pool, "Say hello", source_id="s-1", tags=["greeting"])


@pytest.fixture
def ranking(cast, prompt):
    """Hello is best, hi and hey tie below it."""
    return make_ranking(make_comparison(prompt, ["hi", "hello", "hey"]), cast["alice"], [2, 1, 2])


def export(format="trl", **filters):
    filters = PreferenceFilters.from_values(filters)
    content = b"".join(export_chunks(format=format, file_type="jsonl", filters=filters))
    return [json.loads(line) for line in content.splitlines()]


def only(records, *names):
    return [{name: record[name] for name in names} for record in records]


def test_trl(ranking):
    assert only(export("trl"), "prompt", "chosen", "rejected") == [
        {"prompt": "Human: Say hello\n\nAssistant:", "chosen": " hello", "rejected": " hi"},
        {"prompt": "Human: Say hello\n\nAssistant:", "chosen": " hello", "rejected": " hey"},
    ]


def test_trl_conversational(ranking):
    first, _second = only(export("trl-conversational"), "prompt", "chosen", "rejected")
    assert first == {
        "prompt": [{"role": "user", "content": "Say hello"}],
        "chosen": [{"role": "assistant", "content": "hello"}],
        "rejected": [{"role": "assistant", "content": "hi"}],
    }


def test_hh(ranking):
    first, _second = only(export("hh"), "chosen", "rejected")
    assert first == {
        "chosen": "\n\nHuman: Say hello\n\nAssistant: hello",
        "rejected": "\n\nHuman: Say hello\n\nAssistant: hi",
    }


def test_moss(ranking):
    first, _second = only(export("moss"), "chosen", "rejected")
    assert first == {"chosen": ["Say hello", "hello"], "rejected": ["Say hello", "hi"]}


def test_a_conversation_is_turns_of_a_human_and_an_assistant():
    assert turns(CHAT) == [("Human", "Be brief.\n\nHi"), ("Assistant", "Hello!"), ("Human", "How are you?")]
    assert transcript(CHAT) == "\n\nHuman: Be brief.\n\nHi\n\nAssistant: Hello!\n\nHuman: How are you?\n\nAssistant:"


def test_a_pair_says_where_it_comes_from(cast, prompt, ranking):
    hi, hello, _hey = ranking.assignment.comparison.completions.all()
    first, second = export("hh")
    assert first["group_id"] == second["group_id"] == ranking.pk
    assert first["prompt_id"] == prompt.pk
    assert first["comparison_id"] == ranking.assignment.comparison_id
    assert (first["chosen_id"], first["rejected_id"]) == (hello.pk, hi.pk)
    assert (first["chosen_checkpoint"], first["rejected_checkpoint"]) == ("tiny-0", "tiny-0")
    assert first["annotator"] == cast["alice"].pseudonym
    assert "alice" not in json.dumps(first)
    assert first["split"] == ("held_out" if prompt.is_held_out else "train")
    assert (first["source_id"], first["tags"], first["language"]) == ("s-1", '["greeting"]', "en")


def test_the_margin_is_the_distance_and_with_the_first_at_least_the_strength(cast, prompt):
    make_ranking(make_comparison(prompt, ["a", "b", "c"]), cast["alice"], [1, 2, 3])
    assert [record["margin"] for record in export()] == [1.0, 2.0, 1.0]
    Ranking.objects.update(strength=4)
    assert [record["margin"] for record in export()] == [4.0, 4.0, 1.0]
    Ranking.objects.update(strength=1)
    assert [record["margin"] for record in export()] == [1.0, 2.0, 1.0]


def test_ties_and_all_bad_make_no_pairs_but_are_rankings(cast, prompt):
    make_ranking(make_comparison(prompt, ["a", "b"]), cast["alice"], [1, 1])
    make_ranking(make_comparison(prompt, ["c", "d"]), cast["alice"], [1, 2], all_bad=True)
    for format in set(FORMATS) - {"rankings"}:
        assert export(format) == []
    assert [(each["ranks"], each["all_bad"]) for each in export("rankings")] == [([1, 1], False), ([1, 1], True)]


def test_equal_texts_make_no_pair_and_moss_gets_no_empty_ones(cast, prompt):
    make_ranking(make_comparison(prompt, ["same", "same", ""]), cast["alice"], [1, 2, 3])
    assert only(export("trl"), "chosen", "rejected") == [{"chosen": " same", "rejected": " "}] * 2
    assert export("moss") == []


def test_rankings_say_everything(cast, ranking):
    hi, hello, hey = ranking.assignment.comparison.completions.all()
    Ranking.objects.update(flags={str(hi.pk): ["untrue"]}, rationale="because", active_ms=1200)
    [record] = export("rankings")
    assert record["completions"] == [
        {"id": hi.pk, "text": "hi", "checkpoint": "tiny-0", "rank": 2, "position": 3},
        {"id": hello.pk, "text": "hello", "checkpoint": "tiny-0", "rank": 1, "position": 2},
        {"id": hey.pk, "text": "hey", "checkpoint": "tiny-0", "rank": 2, "position": 1},
    ]
    assert record["ranks"] == [2, 1, 2]
    assert json.loads(record["flags"]) == {str(hi.pk): ["untrue"]}
    assert (record["rationale"], record["active_ms"], record["changes"]) == ("because", 1200, -1)
    assert (record["guideline_version"], record["strength"], record["revision"]) == (1, 0, 1)


def test_the_trainer_reads_exported_rankings_as_they_are(ranking, tmp_path):
    path = tmp_path / "rankings.jsonl"
    call_command("export_preferences", "--format", "rankings", "--output", str(path))
    [read] = read_rankings(path)
    assert (read.ranks, read.completions[1].text, read.annotator) == ((2, 1, 2), "hello", ranking.annotator.pseudonym)


@pytest.mark.parametrize("format", ["trl", "trl-conversational", "hh", "moss"])
def test_the_trainer_imports_pairs_again_with_split_annotator_and_language(prompt, ranking, format):
    Prompt.objects.filter(pk=prompt.pk).update(is_held_out=True, language="zh")
    records = export(format)
    found = list(READERS[format.split("-")[0]](records))
    said = [(each.split, each.annotator, each.language) for each in found]
    assert said == [("held_out", records[0]["annotator"], "zh")] * 2 and records[0]["annotator"]


def test_the_trainer_reads_exported_demonstrations_as_they_are(cast, prompt, ranking, tmp_path):
    keep_better_answer(ranking, "Hello, and welcome!")
    make_ranking(make_comparison(prompt, ["a", "b"]), cast["bob"], [1, 2])  # who wrote none
    path = tmp_path / "demonstrations.jsonl"
    call_command("export_preferences", "--format", "demonstrations", "--output", str(path))
    [read] = read_demonstrations(path)
    assert (read.id, read.messages) == (
        str(ranking.pk),
        [{"role": "user", "content": "Say hello"}, {"role": "assistant", "content": "Hello, and welcome!"}],
    )
    assert [each["better_answer"] for each in export("rankings")] == ["Hello, and welcome!", ""]
    Demonstration.objects.all().delete()
    assert export("demonstrations") == []


def test_nothing_is_null_and_columns_are_those_that_are_named(cast, ranking):
    keep_better_answer(ranking, "Hello!")
    for format, module in FORMATS.items():
        assert export(format)
        for record in export(format):
            assert list(record) == list(module.COLUMNS)
            assert None not in record.values()


def test_it_leaves_out_what_does_not_count(cast, prompt, ranking):
    training = make_comparison(prompt, ["x", "y"], kind=Comparison.Kind.TRAINING)
    make_ranking(training, cast["alice"], [1, 2], counts=False)
    make_ranking(make_comparison(prompt, ["old", "older"]), cast["alice"], [1, 2], is_current=False)
    make_ranking(make_comparison(prompt, ["m", "n"]), cast["bob"], [1, 2])
    withdraw_annotator(annotator=cast["bob"])
    assert {record["group_id"] for record in export()} == {ranking.pk}


def test_it_filters(cast, pool, ranking):
    chinese = make_prompt(pool, "你好", language="zh-hans", tags=["问候"])
    other = make_ranking(make_comparison(chinese, ["a", "b"]), cast["bob"], [1, 2], strength=3)
    other_pool = make_pool(make_policy("second"), "second pool")
    third = make_ranking(make_comparison(make_prompt(other_pool, "?"), ["a", "b"]), cast["bob"], [1, 2])
    snapshot = freeze_preferences(policy=pool.policy, filters={"language": "zh-hans"})

    def found(**filters):
        return {record["group_id"] for record in export(**filters)}

    everything = {ranking.pk, other.pk, third.pk}
    assert found() == everything
    assert found(policy=pool.policy_id) == found(policy="tiny") == {ranking.pk, other.pk}
    assert found(pool=str(other_pool.pk)) == {third.pk}
    assert found(language="zh-hans") == found(tag="问候") == found(min_strength="2") == {other.pk}
    assert found(since=other.created_at.isoformat()) == {other.pk, third.pk}
    assert found(until=other.created_at.isoformat()) == {ranking.pk}
    assert found(since="2000-01-01", until="2000-02-01") == set()
    assert found(snapshot=snapshot.pk) == {other.pk}
    assert found(split="train") | found(split="held_out") == everything
    assert not found(split="train") & found(split="held_out")


def test_a_snapshot_is_exported_without_those_who_withdrew_since(cast, prompt, ranking):
    make_ranking(make_comparison(prompt, ["m", "n"]), cast["bob"], [1, 2])
    snapshot = freeze_preferences(policy=prompt.pool.policy)
    withdraw_annotator(annotator=cast["bob"])
    assert {record["group_id"] for record in export(snapshot=snapshot.pk)} == {ranking.pk}


@pytest.mark.parametrize("filters", [{"pool": 999}, {"policy": "nobody"}, {"policy": 999}, {"snapshot": 999}])
def test_what_does_not_exist_is_no_empty_file(filters):
    with pytest.raises(WrongFilter, match="There is no"):
        export(**filters)


@pytest.mark.parametrize("file_type", FILE_TYPES)
@pytest.mark.parametrize("format", FORMATS)
def test_every_file_type_holds_the_same_records(cast, prompt, ranking, format, file_type):
    keep_better_answer(ranking, "Hello!")
    make_ranking(make_comparison(prompt, ["é", '你好 \u2028 \\ " \n', "🙂"]), cast["bob"], [3, 1, 2], strength=2)
    content = b"".join(export_chunks(format=format, file_type=file_type, filters=PreferenceFilters()))
    if file_type == "json":
        records = json.loads(content)
    elif file_type == "jsonl":
        records = [json.loads(line) for line in content.split(b"\n") if line]
    else:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        assert table.column_names == list(FORMATS[format].COLUMNS)
        records = table.to_pylist()
    assert records == export(format)
    assert len(records) == {"rankings": 2, "demonstrations": 1}.get(format, 5)


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_an_export_of_nothing_is_a_file_that_opens(file_type):
    content = b"".join(export_chunks(format="trl", file_type=file_type, filters=PreferenceFilters()))
    if file_type == "json":
        assert json.loads(content) == []
    elif file_type == "jsonl":
        assert content == b""
    else:
        assert pyarrow.parquet.read_table(io.BytesIO(content)).num_rows == 0


def test_it_reads_in_few_statements_and_more_than_one_batch(cast, pool, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr("annotate.preferences.ROWS_AT_A_TIME", 10)
    monkeypatch.setattr("annotate.exports.files.ROWS_PER_GROUP", 7)
    for number in range(25):
        make_ranking(make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"]), cast["alice"], [1, 2])
    with django_assert_max_num_queries(8):
        content = b"".join(export_chunks(format="trl", file_type="parquet", filters=PreferenceFilters()))
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    assert (file.metadata.num_rows, file.num_row_groups) == (25, 4)


@pytest.mark.django_db(transaction=True)
def test_whoever_goes_away_halfway_leaves_no_cursor_behind(monkeypatch):
    monkeypatch.setattr("annotate.preferences.ROWS_AT_A_TIME", 2)
    monkeypatch.setattr("annotate.exports.files.CHUNK_BYTES", 1)
    alice, pool = make_cast()["alice"], make_pool(make_policy())
    for number in range(9):
        make_ranking(make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"]), alice, [1, 2])
    response = export_response(format="trl", file_type="jsonl", filters=PreferenceFilters())
    assert next(response.streaming_content)
    response.close()
    gc.collect()  # what Python cannot close it complains of here, and that fails the test
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors")
        assert cursor.fetchone() == (0,)
    assert not connection.in_atomic_block


def test_a_failure_on_the_way_breaks_the_download_off(ranking, monkeypatch):
    def broken(row):
        yield {"chosen": "half"}
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(FORMATS["hh"], "records", broken)
    response = export_response(format="hh", file_type="json", filters=PreferenceFilters())
    with pytest.raises(RuntimeError, match="the disk is gone"):
        b"".join(response.streaming_content)


def test_the_download_has_a_name_and_a_type():
    response = export_response(format="trl", file_type="parquet", filters=PreferenceFilters(split="train"))
    assert response["Content-Type"] == "application/vnd.apache.parquet"
    assert response["Content-Disposition"].startswith('attachment; filename="whetstone-trl-train-20')
    assert response["Content-Disposition"].endswith('.parquet"')


class TestCommand:
    def test_the_ending_of_the_name_says_what_file_it_is(self, ranking, tmp_path):
        for file_type in FILE_TYPES:
            call_command("export_preferences", "--output", str(tmp_path / f"a.{file_type}"))
        assert pyarrow.parquet.read_table(tmp_path / "a.parquet").num_rows == 2
        assert len(json.loads((tmp_path / "a.json").read_text())) == 2
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2

    def test_it_writes_to_the_standard_output(self, ranking, capfdbinary):
        call_command("export_preferences", "--format", "hh")
        assert len(capfdbinary.readouterr().out.splitlines()) == 2

    def test_a_failure_leaves_no_file(self, ranking, tmp_path, monkeypatch):
        monkeypatch.setattr(FORMATS["trl"], "records", lambda row: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            call_command("export_preferences", "--output", str(tmp_path / "a.jsonl"))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "arguments", [["--pool", "999"], ["--since", "soon"], ["--output", "/no/such/folder/a.jsonl"]]
    )
    def test_it_says_what_is_wrong(self, arguments):
        with pytest.raises(CommandError):
            call_command("export_preferences", *arguments)
