"""docs/api.md and docs/researchers.md against the code: what they name exists, what exists is named."""

import re
from pathlib import Path

from django.urls import get_resolver

from annotate.exports import FORMATS
from annotate.exports.files import FILE_TYPES
from annotate.exports.pairs import PROVENANCE
from annotate.imports.records import FIELDS
from annotate.oracles import ORACLES
from annotate.preferences import PreferenceFilters

DOCS = Path(__file__).resolve().parent.parent / "docs"


def named(document):
    """Every word between back quotes."""
    text = re.sub(r"```.*?```", "", (DOCS / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    return {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.split(r"[ ,]+", quoted)}


def test_researchers_read_of_every_format_filter_column_and_oracle():
    words = named("researchers.md")
    for names in (FORMATS, FILE_TYPES, PreferenceFilters.names(), PROVENANCE, ORACLES):
        assert set(names) <= words


def test_the_columns_of_an_import_are_described():
    assert set(FIELDS) <= named("api.md")


def test_addresses_in_the_documents_exist():
    text = (DOCS / "api.md").read_text(encoding="utf-8") + (DOCS / "researchers.md").read_text(encoding="utf-8")
    found = re.findall(r"(?<![\w.])/(?:api/v1/|v1/)[\w/{}-]*|(?<=localhost:8000)/[\w/-]+", text)
    assert len(found) > 10
    for address in found:
        path = address.replace("{id}", "7").split("?")[0]
        if path in ("/v1", "/v1/"):
            continue  # the base of OpenAI's calls
        match = get_resolver().resolve(path)
        assert match.url_name != "api_nothing", address
