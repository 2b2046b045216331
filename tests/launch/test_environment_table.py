"""docs/operations.md has one row for each environment variable, and none for any other."""

import re
from dataclasses import fields

from config.environment import PROJECT_ROOT, Environment


def rows_of_the_code() -> list[str]:
    return [f"| `{f.name.upper()}` | {f.metadata['shown']} | {f.metadata['meaning']} |" for f in fields(Environment)]


def test_it_documents_every_environment_variable_and_no_other():
    text = (PROJECT_ROOT / "docs" / "operations.md").read_text()
    section = re.search(r"^## Environment variables\n(.*?)^## ", text, re.DOTALL | re.MULTILINE).group(1)
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == rows_of_the_code()
