"""Runs programs side by side, prints what they say under their names, and starts again what dies.

honcho's printer writes the lines. Its manager is not used: it stops everything when one program ends, and it takes a
program for alive as long as any child of it holds the pipe.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from honcho.colour import get_colours
from honcho.printer import Message, Printer

from config.environment import PROJECT_ROOT
from launch.leftovers import end_processes, mark, marked

POLL_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0  # who lived this long starts again with the shortest pause


class Service(Protocol):
    """A private server: started again when it dies, and stopped by whoever started it."""

    process: subprocess.Popen | None

    def start(self) -> str: ...
    def stop(self) -> None: ...


@dataclass
class Program:
    """What to run. `nice` is the scheduler's: pages come before generation, generation before training."""

    name: str
    command: list[str]
    nice: int = 0
    grace_seconds: float = 10.0
    process: subprocess.Popen | None = None
    relay: threading.Thread | None = None
    started_at: float = 0.0
    pause_seconds: float = 1.0
    start_at: float = 0.0


class Supervisor:
    """Programs of one data folder; `environment` is theirs, beside each one's mark. What they say goes to `output`."""

    def __init__(
        self,
        data_dir: Path,
        environment: dict[str, str],
        services: dict[str, Service],
        output: TextIO = sys.stdout,
    ):
        self.data_dir = data_dir
        self.environment = environment
        self.services = services
        self.programs: dict[str, Program] = {}
        self._printer = Printer(output, width=len("worker-generate"))
        self._printing = threading.Lock()
        self._colours = get_colours()
        self._colour: dict[str, str] = {}

    def start(self, program: Program) -> None:
        """Run a program, and again whenever it ends."""
        self.programs[program.name] = program
        self._spawn(program)

    def run(self, name: str, command: list[str]) -> int:
        """Run a program once, to its end, while the rest is kept up; gives its exit code."""
        program = Program(name, command)
        self._spawn(program)
        try:
            while program.process.poll() is None:
                self.watch(POLL_SECONDS)
        finally:
            self._end(program)
        return program.process.returncode

    def watch(self, seconds: float | None = None) -> None:
        """Keep everything running for `seconds`, or until an exception (KeyboardInterrupt, mostly) ends it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while deadline is None or time.monotonic() < deadline:
            self.revive()
            time.sleep(POLL_SECONDS)

    def revive(self) -> None:
        """Start what has died: servers at once, programs after a pause that doubles with every quick death."""
        for name, service in self.services.items():
            if service.process is not None and service.process.poll() is not None:
                self.say(f"{name} {how_it_ended(service.process.returncode)}; starting it again")
                service.start()
        now = time.monotonic()
        for program in self.programs.values():
            if program.process is not None and program.process.poll() is not None:
                self._bury(program, now)
            elif program.process is None and now >= program.start_at:
                self._spawn(program)

    def stop(self) -> None:
        """End every program at once, each with its own grace, and all they started; a second Ctrl-C cuts that short."""
        enders = [threading.Thread(target=self._end, args=(program,)) for program in self.programs.values()]
        try:
            for ender in enders:
                ender.start()
            for ender in enders:
                ender.join()
        except KeyboardInterrupt:
            end_processes(marked(self.data_dir), grace_seconds=0)

    def say(self, line: str, name: str = "launch") -> None:
        with self._printing:
            self._printer.write(Message("line", line, datetime.now(), name, self._colour.get(name)))

    def _spawn(self, program: Program) -> None:
        self._colour.setdefault(program.name, next(self._colours))
        program.process = subprocess.Popen(
            program.command,
            cwd=PROJECT_ROOT,
            env=self.environment | mark(self.data_dir, program.name) | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, program.process.pid, program.nice)
        program.started_at = time.monotonic()
        program.relay = threading.Thread(target=self._relay, args=(program.name, program.process.stdout), daemon=True)
        program.relay.start()

    def _bury(self, program: Program, now: float) -> None:
        """Note a death, end what the dead one had started, and set the time of its return."""
        is_steady = now - program.started_at > STEADY_SECONDS
        program.pause_seconds = 1.0 if is_steady else min(program.pause_seconds * 2, LONGEST_PAUSE_SECONDS)
        ending = how_it_ended(program.process.returncode)
        self.say(f"{program.name} {ending}; starting it again in {program.pause_seconds:.0f} s")
        program.process = None
        program.start_at = now + program.pause_seconds
        end_processes(marked(self.data_dir, program.name), grace_seconds=program.grace_seconds)

    def _end(self, program: Program) -> None:
        """Ask the program itself first: a worker ends what it started in better order than anybody else could."""
        if program.process is not None:
            program.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.process.wait(program.grace_seconds)
        end_processes(marked(self.data_dir, program.name), grace_seconds=2)
        if program.process is not None:
            program.process.wait()
        program.relay.join(timeout=2)

    def _relay(self, name: str, output: BinaryIO) -> None:
        with output:
            for line in output:
                if line.strip():
                    self.say(line.decode("utf-8", "replace"), name)


def how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"was killed ({signal.Signals(-returncode).name})"
    return f"ended with code {returncode}"
