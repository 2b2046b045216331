"""A data folder belongs to one supervisor at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from launch.failures import CannotStart


@contextlib.contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold the folder. The kernel lets go of the lock when its holder dies, however it dies. Raises CannotStart."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = open(data_dir / "launch.lock", "a+")  # noqa: SIM115
    except OSError as error:
        raise CannotStart(f"DATA_DIR is “{data_dir}”: it must be a writable folder ({error.strerror}).") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise CannotStart(f"Whetstone already runs on {data_dir} (process {lock.read().strip()}).") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
