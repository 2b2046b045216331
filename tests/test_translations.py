"""The catalogue of 简体中文 is whole: every marked string of the code is in it, translated, with its blanks kept.

New strings: with `make run` going, call `manage.py makemessages` as the head of the catalogue says (it needs gettext),
then translate what is new.
This test needs no gettext: Babel reads the code, Django's own `templatize` the templates.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import polib
import pytest
from babel.messages.extract import extract
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = ROOT / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"
TEMPLATES = (".html", ".txt")
# What each function's arguments are: c is the context, 1 the first text, 2 its plural.
KEYWORDS = {
    **{f"{name}{lazy}": None for name in ("_", "gettext", "gettext_noop") for lazy in ("", "_lazy")},
    **{f"ngettext{lazy}": (1, 2) for lazy in ("", "_lazy")},
    **{f"pgettext{lazy}": ((1, "c"), 2) for lazy in ("", "_lazy")},
    **{f"npgettext{lazy}": ((1, "c"), 2, 3) for lazy in ("", "_lazy")},
}
BLANK = re.compile(r"%\(\w+\)[sd]|\{\w*\}|</?\w+[^>]*>|%%")
WIDTH = re.compile(r"(?<=\))\d+(?=d)")  # 05 minutes, but 5 分
FULL_WIDTH_WANTED = re.compile(r"[\u4e00-\u9fff][,;:!?.](?!\w)")
CLOSE_TOGETHER = re.compile(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9%][\u4e00-\u9fff]")


def entries() -> list[polib.POEntry]:
    return [entry for entry in polib.pofile(str(CATALOGUE)) if not entry.obsolete]


def translations_of(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def sources() -> Iterator[Path]:
    for folder in ("annotate", "trainer", "config"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts)
    yield from (path for path in (ROOT / "templates").rglob("*.*") if path.suffix in TEMPLATES)


def marked(path: Path) -> Iterator[tuple[str | None, str]]:
    """Context and text of every string that the file marks for translation."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in TEMPLATES:
        text = f"({templatize(text, origin=str(path))})"  # in brackets, Python asks for no order in the indentation
    file = BytesIO(f"# -*- coding: utf-8 -*-\n{text}".encode())
    for _line, message, _comments, context in extract("python", file, keywords=KEYWORDS):
        yield context, message[0] if isinstance(message, tuple) else message


def test_every_marked_string_is_in_the_catalogue():
    known = {(entry.msgctxt, entry.msgid) for entry in entries()}
    missing = {
        f"{path.relative_to(ROOT)}: {text}" for path in sources() for context, text in marked(path)
        if (context, text) not in known
    }  # fmt: skip
    assert sorted(missing) == []


def test_the_catalogue_holds_nothing_that_the_code_does_not_say():
    said = {found for path in sources() for found in marked(path)}
    assert sorted(entry.msgid for entry in entries() if (entry.msgctxt, entry.msgid) not in said) == []


def test_every_string_is_translated_and_none_is_a_guess():
    assert [entry.msgid for entry in entries() if entry.fuzzy] == []
    assert [entry.msgid for entry in entries() if not entry.translated()] == []


def test_chinese_has_one_form_for_every_number():
    assert {len(entry.msgstr_plural) for entry in entries() if entry.msgid_plural} == {1}


def test_every_blank_and_tag_is_kept():
    """Of a plural, those of the form for many."""
    wrong = [
        f"{entry.msgid} → {said}"
        for entry in entries()
        for said in translations_of(entry)
        if set(BLANK.findall(WIDTH.sub("", entry.msgid_plural or entry.msgid))) != set(BLANK.findall(said))
    ]
    assert wrong == []


@pytest.mark.parametrize("habit", [FULL_WIDTH_WANTED, CLOSE_TOGETHER])
def test_chinese_is_set_as_chinese_is(habit):
    """Full-width punctuation after Chinese; a space between Chinese and Latin letters or figures."""
    wrong = [said for entry in entries() for said in translations_of(entry) if habit.search(BLANK.sub("", said))]
    assert wrong == []


def test_scripts_say_only_what_the_page_gives_them():
    """A script has no words of its own, nor a colon: `page_data` hands it every sentence, translated."""
    spoken = re.compile(r"""["'`][A-Z][a-z]+ [a-z]+[^"'`]*["'`]|`[^`]*(?:\}: |[:“]\s?\$\{)[^`]*`""")
    comments = re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL)
    scripts = sorted((ROOT / "static" / "js").glob("*.js"))
    assert scripts
    assert [found for path in scripts for found in spoken.findall(comments.sub("", path.read_text("utf-8")))] == []
