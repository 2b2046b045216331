"""Finds every process started for a data folder, by a mark in its environment, and ends it.

A process number in a file says nothing about what a killed worker had started in turn, and may belong to somebody else
by now. The mark is inherited by every descendant, whatever its session or parent, and goes with the process.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

MARK = "WHETSTONE_PROCESS"


def mark(data_dir: Path, name: str) -> dict[str, str]:
    """What to add to the environment of the process `name` of this data folder.

    gunicorn and celery change their titles with setproctitle, which writes over the environment others can read unless
    it is told to spare it.
    """
    return {MARK: f"{data_dir}:{name}", "SPT_NOENV": "1"}


def marked(data_dir: Path, name: str = "") -> list[psutil.Process]:
    """Every living process with the mark of this data folder, or of one `name` in it; never this one or its parents."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    wanted = f"{data_dir}:{name}"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get(MARK, "")
            if process.pid not in own and (value == wanted if name else value.startswith(wanted)):
                found.append(process)
    return found


def end_processes(processes: Iterable[psutil.Process], *, grace_seconds: float) -> None:
    """SIGTERM, so that work in progress is put down in order; SIGKILL to what is left after `grace_seconds`."""
    processes = list(processes)
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5)):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while processes and time.monotonic() < deadline:
            processes = [process for process in processes if is_alive(process)]
            time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that has ended and waits for its parent to notice does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
