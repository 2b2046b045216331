"""Prompts from files: what is taken, what is refused with which line, and that it is all or nothing."""

import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.models import AuditEvent, Prompt
from annotate.services.imports import WrongFile, format_of, import_prompts
from tests.worlds import make_person, make_policy, make_pool, make_prompt

pytestmark = pytest.mark.django_db
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]


@pytest.fixture
def maria():
    return make_person("maria", "manager")


@pytest.fixture
def pool():
    return make_pool(make_policy(), language="en")


@pytest.fixture
def load(pool, maria):
    def load(content, format="jsonl"):
        content = content.encode() if isinstance(content, str) else content
        return import_prompts(pool=pool, file=io.BytesIO(content), format=format, actor=maria)

    return load


def lines(*records):
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records)


def parquet(**columns):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


def bad(report):
    return [row.line for row in report.bad_rows]


def test_it_takes_messages_and_plain_prompts(load, pool):
    report = load(
        lines(
            {"messages": CHAT, "language": "fr", "tags": ["greeting", "greeting"], "source_id": 7},
            {"prompt": "Say hi", "id": "x-1"},
            {"prompt": [{"role": "user", "content": "As in TRL"}]},
        )
    )
    assert (report.rows, report.added, report.duplicates, report.is_imported) == (3, 3, 0, True)
    first, second, third = pool.prompts.all()
    assert (first.messages, first.language, first.tags, first.source_id) == (CHAT, "fr", ["greeting"], "7")
    assert second.messages == [{"role": "user", "content": "Say hi"}]
    assert (second.language, second.source_id) == ("en", "x-1")
    assert third.messages == [{"role": "user", "content": "As in TRL"}]


def test_one_bad_row_and_nothing_is_imported(load, pool):
    report = load(lines({"prompt": "good"}, {"prompt": ""}, {"prompt": "also good"}, {"text": "what?"}))
    assert bad(report) == [2, 4]
    assert (report.rows, report.added, report.bad, report.is_imported) == (4, 0, 2, False)
    assert not pool.prompts.exists()
    assert not AuditEvent.objects.exists()


def test_it_counts_duplicates_in_the_file_and_in_the_pool(load, pool):
    make_prompt(pool, "known")
    report = load(lines({"prompt": "known"}, {"prompt": "new"}, {"prompt": "  new "}))
    assert (report.added, report.duplicates) == (1, 2)
    assert pool.prompts.count() == 2


def test_the_same_file_twice_adds_nothing_the_second_time(load, pool):
    content = lines(*({"prompt": f"prompt {number}"} for number in range(1200)))
    assert load(content).added == 1200
    report = load(content)
    assert (report.added, report.duplicates, pool.prompts.count()) == (0, 1200, 1200)


def test_it_notes_who_imported_what(load, maria):
    load(lines({"prompt": "a"}))
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.detail["added"]) == (maria, "import.prompts", 1)


@pytest.mark.parametrize(
    "row",
    [
        "not json",
        "[1, 2]",
        '"text"',
        "{}",
        '{"prompt": "both", "messages": [{"role": "user", "content": "x"}]}',
        '{"prompt": 5}',
        '{"prompt": "nul \\u0000 in it"}',
        '{"prompt": "half a pair \\ud83d"}',
        '{"messages": []}',
        '{"messages": "hello"x}',
        '{"messages": [{"role": "user"}]}',
        '{"messages": [{"role": "user", "content": "  "}]}',
        '{"messages": [{"role": "robot", "content": "x"}]}',
        '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
        '{"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}, '
        '{"role": "user", "content": "z"}]}',
        '{"messages": [5]}',
        '{"messages": {"role": "user", "content": "x"}}',
        '{"prompt": "x", "language": "English, please"}',
        '{"prompt": "x", "language": 5}',
        '{"prompt": "x", "tags": 5}',
        '{"prompt": "x", "tags": [5]}',
        '{"prompt": "x", "tags": ["nul\\u0000"]}',
        '{"prompt": "x", "tags": ["' + "t" * 41 + '"]}',
        '{"prompt": "x", "source_id": {"a": 1}}',
        '{"prompt": "x", "source_id": "' + "s" * 201 + '"}',
        '{"prompt": "' + "x" * 50_001 + '"}',
        '{"prompt": ' + "9" * 5000 + "}",
        '{"a":' * 100_000,
    ],
    ids=lambda row: row[:40],
)
def test_it_says_which_line_is_wrong_and_why(load, pool, row):
    report = load(lines({"prompt": "good"}) + "\n\n" + row + "\n" + lines({"prompt": "good too"}))
    assert bad(report) == [3]
    assert report.bad_rows[0].reason.endswith(".")
    assert not pool.prompts.exists()


def test_a_byte_order_mark_is_no_part_of_the_first_line(load):
    assert load(b"\xef\xbb\xbf" + lines({"prompt": "hi"}).encode()).added == 1


def test_bytes_that_are_no_utf_8_spoil_their_own_line_alone(load):
    report = load(b'{"prompt": "caf\xe9"}\n{"prompt": "caf\xc3\xa9"}\n{"prompt": "\xff"}')
    assert bad(report) == [1, 3]


def test_it_reads_windows_line_ends_and_a_missing_last_one(load, pool):
    assert load('{"prompt": "a"}\r\n{"prompt": "b"}').added == 2
    assert load('prompt\r\n"two\r\nlines"\r\nc', "csv").added == 2
    assert {str(prompt) for prompt in pool.prompts.all()} == {"a", "b", "two\r\nlines", "c"}


@pytest.mark.parametrize("format", ["jsonl", "csv"])
def test_it_refuses_utf_16_with_a_sentence(load, format):
    with pytest.raises(WrongFile, match="UTF-8"):
        load("prompt\nhello".encode("utf-16"), format)


@pytest.mark.parametrize(
    ("content", "format"),
    [(b"", "jsonl"), (b"\n\n", "jsonl"), (b"", "csv"), (b"prompt\n", "csv"), (b"", "parquet"), (b"PAR1", "parquet")],
)
def test_it_refuses_an_empty_file(load, content, format):
    with pytest.raises(WrongFile):
        load(content, format)


def test_it_refuses_a_format_it_does_not_know(load):
    with pytest.raises(WrongFile, match="jsonl, csv, parquet"):
        load("x", "xlsx")


def test_a_line_without_end_is_not_read_into_memory(load):
    report = load('{"prompt": "' + "x" * (2**20 + 10) + '"}\n{"prompt": "a"}')
    assert bad(report) == [1]
    assert bad(load("prompt\n" + "x" * (2**20 + 10) + "\na", "csv")) == [2]


def test_it_stops_at_the_most_rows(load, pool, monkeypatch):
    monkeypatch.setattr("annotate.services.imports.MOST_ROWS", 2)
    with pytest.raises(WrongFile, match="more than 2 rows"):
        load(lines({"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}))
    assert not pool.prompts.exists()


def test_it_refuses_a_file_that_is_too_large_before_reading_it(load, monkeypatch):
    monkeypatch.setattr("annotate.services.imports.LARGEST_FILE", 2**20)
    with pytest.raises(WrongFile, match="larger than 1 MiB"):
        load(b" " * (2**20 + 1))


def test_it_lists_the_first_bad_rows_and_counts_the_others(load):
    report = load("\n".join("x" for _ in range(250)))
    assert (report.bad, len(report.bad_rows)) == (250, 200)


def test_it_names_columns_that_it_ignores(load):
    assert load(lines({"prompt": "a", "colour": "red"})).ignored == {"colour"}


def test_csv_columns_are_found_by_name(load, pool):
    report = load('id,tags,prompt,language\n1,"a, b",你好,zh\n2,,"say ""hi"", now",\n', "csv")
    assert report.added == 2
    first, second = pool.prompts.all()
    assert (str(first), first.tags, first.language, first.source_id) == ("你好", ["a", "b"], "zh", "1")
    assert (str(second), second.tags, second.language) == ('say "hi", now', [], "en")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_may_have_another_delimiter(load, pool, mark):
    load(f"prompt{mark}language\nhello, you{mark}fr\n", "csv")
    assert (str(pool.prompts.get()), pool.prompts.get().language) == ("hello, you", "fr")


def test_a_csv_cell_may_hold_messages(load, pool):
    quoted = json.dumps(CHAT).replace('"', '""')
    load(f'messages\n"{quoted}"\n', "csv")
    assert pool.prompts.get().messages == CHAT


def test_csv_lines_are_counted_as_an_editor_counts_them(load):
    assert bad(load('prompt,language\n"two\nlines",en\nx,much too long to be one\n', "csv")) == [4]


@pytest.mark.parametrize(
    ("content", "line"),
    [("prompt\na,b\n", 2), ('prompt\na\n"never closed\n', 3), ("prompt\nnul\0\n", 2), (b"prompt\n\xff\n", 2)],
)
def test_broken_csv_is_reported_with_its_line(load, content, line):
    assert bad(load(content, "csv")) == [line]


@pytest.mark.parametrize("content", ["question\nwhat?\n", "prompt,prompt\na,b\n", "hello there\n"])
def test_a_csv_header_must_name_its_columns_once(load, content):
    with pytest.raises(WrongFile):
        load(content, "csv")


def test_it_reads_parquet(load, pool):
    report = load(
        parquet(messages=[CHAT, CHAT[1:]], tags=[["a"], None], source_id=[1, 2], language=["fr", None], extra=[1, 2]),
        "parquet",
    )
    assert report.added == 2
    first, second = pool.prompts.all()
    assert (first.messages, first.tags, first.language, first.source_id) == (CHAT, ["a"], "fr", "1")
    assert (second.messages, second.tags, second.language) == (CHAT[1:], [], "en")


def test_a_bad_row_of_a_parquet_file_has_its_number(load, pool):
    assert bad(load(parquet(prompt=["a", "b\0", None, "d"]), "parquet")) == [2, 3]
    assert not pool.prompts.exists()


def test_parquet_without_prompts_is_refused(load):
    with pytest.raises(WrongFile, match="prompt"):
        load(parquet(question=["a"]), "parquet")


def test_a_parquet_file_cut_short_is_refused(load):
    with pytest.raises(WrongFile, match="Parquet"):
        load(parquet(prompt=["a"])[:-20], "parquet")


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(load, monkeypatch):
    monkeypatch.setattr("annotate.imports.readers.LARGEST_PARQUET", 10)
    with pytest.raises(WrongFile, match="unpacks"):
        load(parquet(prompt=["a" * 100]), "parquet")


@pytest.mark.parametrize(
    ("name", "format"), [("a.jsonl", "jsonl"), ("A.CSV", "csv"), ("b.parquet", "parquet"), ("c.xlsx", None), ("", None)]
)
def test_a_files_name_says_its_format(name, format):
    assert format_of(name) == format


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), format=st.sampled_from(["jsonl", "csv", "parquet"]))
def test_no_bytes_whatever_make_it_fall_over(load, content, format):
    try:
        report = load(content, format)
    except WrongFile:
        return
    assert report.is_imported or not report.added


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40))
def test_what_is_imported_is_what_stood_in_the_file(load, pool, text):
    Prompt.objects.all().delete()
    report = load(json.dumps({"prompt": text}))
    if report.is_imported:
        assert pool.prompts.get().messages == [{"role": "user", "content": text}]
    else:
        assert not text.strip() or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
