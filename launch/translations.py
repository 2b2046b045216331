"""Compile the message catalogues, with no gettext on the machine."""

import os
from pathlib import Path

import polib

from config.environment import PROJECT_ROOT


def compile_translations(locale: Path = PROJECT_ROOT / "locale") -> list[Path]:
    """Write a .mo beside every .po that is newer than its own, and give the ones written."""
    written = []
    for source in sorted(locale.glob("*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        polib.pofile(str(source)).save_as_mofile(str(temporary))
        temporary.replace(target)
        written.append(target)
    return written
