"""Write preference data to a file, or to the standard output."""

import sys
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import Refused
from annotate.exports import FORMATS, export_chunks
from annotate.exports.files import FILE_TYPES
from annotate.preferences import PreferenceFilters


class Command(BaseCommand):
    help = "Export preferences, streaming. The file stands under its name only when it is whole."

    def add_arguments(self, parser):
        parser.add_argument("--format", choices=FORMATS, default="trl")
        parser.add_argument("--file", choices=FILE_TYPES, help="default: what --output ends in, or jsonl")
        parser.add_argument("--output", default="-", help="default: the standard output")
        for name in PreferenceFilters.names():
            parser.add_argument(f"--{name.replace('_', '-')}", default="")

    def handle(self, *args, output, **options):
        path = None if output == "-" else Path(output)
        ending = path.suffix.removeprefix(".") if path else ""
        file_type = options["file"] or (ending if ending in FILE_TYPES else "jsonl")
        try:
            filters = PreferenceFilters.from_values({name: options[name] for name in PreferenceFilters.names()})
            chunks = export_chunks(format=options["format"], file_type=file_type, filters=filters)
        except Refused as refusal:
            raise CommandError(str(refusal)) from refusal
        if path is None:
            sys.stdout.buffer.writelines(chunks)
            return
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                file.writelines(chunks)
            part.replace(path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        finally:
            part.unlink(missing_ok=True)
