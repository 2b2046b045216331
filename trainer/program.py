"""Runs one stage of `trainer.rlhf` as a child process: watches it, copies its metrics, passes a cancel on.

A crash or an out-of-memory kill takes the child and not the worker; its memory goes back with it; its state is in
the run folder, so that starting it again is going on.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from django.utils import timezone

from config.environment import PROJECT_ROOT
from trainer.models import RunMetric, TrainingRun
from trainer.run_folder import run_folder

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_SAVE = 120
RESTARTS_WITHOUT_PROGRESS = 2
SECONDS_BETWEEN_TRIES = 5.0
SECONDS_FOR_ANOTHER = 1800  # a step of a large model may take as long
EXIT_BUSY = 69
PR_SET_PDEATHSIG = 1
# Threads that wait must sleep, not spin: the generate worker and the web server share the processor with this
# program. Spinning made both four times slower on two cores.
PROGRAM_ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE"}

worker_is_stopping = threading.Event()


class Cancelled(Exception):
    """Somebody asked for the run to end."""


class Interrupted(Exception):
    """The worker is going down; the state is saved and the run goes on when a worker is back."""


class StageFailed(Exception):
    """The stage cannot go on. The message says why, for a person."""

    def __init__(self, reason: str, can_retry: bool):
        super().__init__(reason)
        self.can_retry = can_retry


def run_stage(run: TrainingRun, stage: str) -> None:
    """Run one stage to its end. Raises Cancelled, Interrupted or StageFailed.

    A child that was killed is started again and goes on from its state; killed again and again without a step
    forward, the stage has failed. The child of a worker that died may be at work still: it was told to stop.
    """
    folder = run_folder(run)
    restarts, ends_waiting = 0, None
    while True:
        step_before = last_step(run, stage)
        code = watch(run, stage, folder)
        if code == EXIT_BUSY:
            ends_waiting = ends_waiting or time.monotonic() + SECONDS_FOR_ANOTHER
            if time.monotonic() > ends_waiting:
                raise StageFailed("Another process is still at work in the run's folder.", can_retry=True)
            worker_is_stopping.wait(SECONDS_BETWEEN_TRIES)
            continue
        ends_waiting = None
        if code == 0:
            return
        if code == 1:
            raise failure_of(folder, stage)
        restarts = restarts + 1 if last_step(run, stage) == step_before else 0
        if restarts > RESTARTS_WITHOUT_PROGRESS:
            raise StageFailed(
                f"The trainer ended with code {code} in stage {stage}, {restarts} times without a step forward. "
                "A code of -9 usually means that memory ran out.",
                can_retry=True,
            )


def watch(run: TrainingRun, stage: str, folder: Path) -> int:
    """Start the stage's program and follow it to its end; returns its exit code."""
    metrics = MetricsTail(run, stage, folder / stage / "metrics.jsonl")
    log_path = folder / f"{stage}.log"
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            program(stage, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=PROJECT_ROOT,
            env=os.environ | PROGRAM_ENVIRONMENT,
            preexec_fn=end_with_parent,
        )
        try:
            while child.poll() is None:
                metrics.copy_new()
                if worker_is_stopping.is_set():
                    end(child)
                    metrics.copy_new()
                    raise Interrupted
                if TrainingRun.objects.filter(pk=run.pk).exclude(cancel_requested_at=None).exists():
                    end(child)
                    raise Cancelled
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(SECONDS_BETWEEN_LOOKS)
        except BaseException:
            end(child)
            raise
    metrics.copy_new()
    return child.returncode


def program(stage: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "trainer.rlhf", stage, str(folder)]


def end_with_parent() -> None:
    """In the child, before it starts: be told to stop when the worker dies, even by kill -9 (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(child: subprocess.Popen) -> None:
    """Ask the stage to save its state and stop; insist after a while."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(SECONDS_TO_SAVE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def failure_of(folder: Path, stage: str) -> StageFailed:
    try:
        error = json.loads((folder / "error.json").read_text())
        if error["stage"] != stage:
            raise ValueError("the record of another stage")
        return StageFailed(error["reason"], error.get("can_retry", False))
    except (OSError, ValueError, KeyError):
        lines = (folder / f"{stage}.log").read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return StageFailed(f"The trainer failed in stage {stage}: {lines[-1][:500]}", can_retry=True)


def last_step(run: TrainingRun, stage: str) -> int:
    return run.metrics.filter(stage=stage).order_by("-step").values_list("step", flat=True).first() or 0


class MetricsTail:
    """Copies what a stage appends to its metrics.jsonl into RunMetric rows, each step once, and keeps the heartbeat."""

    def __init__(self, run: TrainingRun, stage: str, path: Path):
        self.run, self.stage, self.path = run, stage, path
        self.offset, self.inode = 0, 0

    def copy_new(self) -> None:
        lines = self.new_lines()
        rows = [
            RunMetric(run=self.run, stage=self.stage, step=line["step"], values=line["metrics"])
            for line in lines
            if line.get("metrics")
        ]
        # A stage that was resumed writes the steps after its state again: the newest line of a step holds.
        newest = {row.step: row for row in rows}.values()
        RunMetric.objects.bulk_create(
            newest, update_conflicts=True, unique_fields=["run", "stage", "step"], update_fields=["values"]
        )
        self.run.heartbeat_at = timezone.now()
        fields = ["heartbeat_at"]
        if lines:
            last = lines[-1]
            self.run.stage, self.run.step, self.run.steps = self.stage, last["step"], last["steps"]
            self.run.seconds_left, self.run.message = last.get("seconds_left"), last.get("message", "")
            fields += ["stage", "step", "steps", "seconds_left", "message"]
        self.run.save(update_fields=fields)

    def new_lines(self) -> list[dict]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self.inode:  # a resumed stage puts a shorter file in its place: read it from the start
                self.offset, self.inode = 0, inode
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        lines = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines
