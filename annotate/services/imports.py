"""Prompts from a file into a pool: all of them or none, with a report of every row that was not right."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.errors import Refused
from annotate.imports.readers import READERS, Row, UnreadableFile
from annotate.imports.records import FIELDS, BadRecord, PromptRecord, prompt_record
from annotate.models import Prompt, PromptPool, User
from annotate.services.audit import record

FORMATS = tuple(READERS)
ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
LARGEST_FILE = 100 * 2**20  # bytes
MOST_ROWS = 200_000
BAD_ROWS_LISTED = 200
ROWS_AT_A_TIME = 500


class WrongFile(Refused):
    code = "wrong_file"


@dataclass(frozen=True)
class BadRow:
    """A row that is no prompt: where, and why in a sentence."""

    line: int
    reason: str


@dataclass
class ImportReport:
    """What became of a file. With a single bad row nothing was imported.

    `duplicates` are rows whose conversation the pool had already, or that stood in the file twice; `bad_rows` lists the
    first of `bad`; `ignored` names the columns nobody asked for.
    """

    rows: int = 0
    added: int = 0
    duplicates: int = 0
    bad: int = 0
    bad_rows: list[BadRow] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)

    @property
    def is_imported(self) -> bool:
        return self.bad == 0

    def note_bad(self, line: int, reason: object) -> None:
        self.bad += 1
        if len(self.bad_rows) < BAD_ROWS_LISTED:
            self.bad_rows.append(BadRow(line, str(reason)))


def format_of(name: str) -> str | None:
    """The format that a file's name says, or None."""
    return next((form for ending, form in ENDINGS.items() if name.lower().endswith(ending)), None)


def import_prompts(*, pool: PromptPool, file: BinaryIO, format: str, actor: User | None) -> ImportReport:
    """Add the prompts of `file` (opened binary, seekable) to `pool`. One bad row, and nothing is added.

    `format` is one of FORMATS. Raises WrongFile where the file as a whole cannot be read.
    """
    if format not in READERS:
        raise WrongFile(_("The format must be one of %(formats)s.") % {"formats": ", ".join(FORMATS)})
    if size_of(file) > LARGEST_FILE:
        raise WrongFile(_("The file is larger than %(most)d MiB. Split it.") % {"most": LARGEST_FILE // 2**20})
    report = ImportReport()
    try:
        with transaction.atomic():
            # Imports into one pool go one after the other; rankings of the pool are not held up.
            PromptPool.objects.select_for_update(no_key=True).get(pk=pool.pk)
            add_prompts(pool, checked_records(READERS[format](file), report), report)
            if not report.rows:
                raise WrongFile(_("There is no prompt in this file."))
            if report.bad:
                report.added = 0
                transaction.set_rollback(True)
            else:
                record(actor, "import.prompts", pool, added=report.added, duplicates=report.duplicates)
    except UnreadableFile as error:
        raise WrongFile(str(error)) from None
    return report


def size_of(file: BinaryIO) -> int:
    size = file.seek(0, 2) or file.tell()
    file.seek(0)
    return size


def checked_records(rows: Iterable[Row], report: ImportReport) -> Iterator[PromptRecord]:
    """The good rows; the bad ones go into the report."""
    for line, row in rows:
        report.rows += 1
        if report.rows > MOST_ROWS:
            raise WrongFile(_("There are more than %(most)d rows. Split the file.") % {"most": MOST_ROWS})
        if isinstance(row, BadRecord):
            report.note_bad(line, row)
            continue
        report.ignored |= {str(name)[:100] for name in set(row) - set(FIELDS)} if len(report.ignored) < 50 else set()
        try:
            yield prompt_record(row)
        except BadRecord as error:
            report.note_bad(line, error)


def add_prompts(pool: PromptPool, records: Iterator[PromptRecord], report: ImportReport) -> None:
    seen: set[str] = set()
    batch: list[Prompt] = []
    for each in records:
        prompt = Prompt(
            pool=pool,
            messages=each.messages,
            language=each.language or pool.language,
            tags=each.tags,
            source_id=each.source_id,
        )
        prompt.set_content_hash()
        if prompt.content_hash in seen:
            report.duplicates += 1
            continue
        seen.add(prompt.content_hash)
        batch.append(prompt)
        if len(batch) == ROWS_AT_A_TIME:
            write(pool, batch, report)
            batch = []
    write(pool, batch, report)


def write(pool: PromptPool, batch: list[Prompt], report: ImportReport) -> None:
    hashes = [prompt.content_hash for prompt in batch]
    known = set(pool.prompts.filter(content_hash__in=hashes).values_list("content_hash", flat=True))
    fresh = [prompt for prompt in batch if prompt.content_hash not in known]
    report.duplicates += len(known)
    report.added += len(fresh)
    if fresh and not report.bad:
        Prompt.objects.bulk_create(fresh)
