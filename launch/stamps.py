"""What a data folder has been prepared for, so that a second start does not do it again."""

import hashlib
from pathlib import Path

from config.environment import PROJECT_ROOT, Environment

PREPARED_FROM = ("annotate", "trainer", "config", "launch", "locale", "static", "requirements.lock")


def fingerprint(environment: Environment) -> str:
    """A hash over name, size and time of every file that preparing reads, and of the private database's own mark."""
    tops = [PROJECT_ROOT / name for name in PREPARED_FROM]
    files = [file for top in tops for file in (top.rglob("*") if top.is_dir() else [top])]
    files.append(environment.data_dir / "postgres" / "PG_VERSION")
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file() and file.suffix not in (".pyc", ".mo")):
        status = file.stat()
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_prepared(environment: Environment) -> bool:
    """Whether this very code has prepared the private database. Of a database elsewhere nothing is known."""
    stamp = stamp_file(environment)
    return not environment.database_url and stamp.exists() and stamp.read_text() == fingerprint(environment)


def note_prepared(environment: Environment) -> None:
    stamp_file(environment).write_text(fingerprint(environment))


def stamp_file(environment: Environment) -> Path:
    return environment.data_dir / "prepared"
