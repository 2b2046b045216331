"""A run folder on disk: where things lie, how they are written so that a kill never leaves half of one.

Files are written to a temporary name, fsynced and renamed. `run_stage` turns what happens in a stage into its exit
code: 0 complete, 75 stopped by SIGTERM or Ctrl-C with its state saved, 69 not begun since another process is at work in
the folder, 1 failed with the reason in `error.json`.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trainer.rlhf.config import COST_ALONE, MADE_ANEW, ConfigError, RunConfig, changed_keys, read_config
from trainer.rlhf.data import DataError
from trainer.rlhf.processes import ALONE, Processes, is_first_started, join_processes

COMPLETE, FAILED, BUSY, STOPPED = 0, 1, 69, 75
SECONDS_BETWEEN_LINES = 5.0  # of progress on a terminal
PRODUCTS = {
    "pretrain": "pretrain/policy/manifest.json",
    "sft": "sft/policy/manifest.json",
    "reward": "reward/report.json",
    "ppo": "ppo/policy/manifest.json",
    "evaluate": "evaluation.json",
}


class StageError(RuntimeError):
    """A stage cannot go on; `can_retry` says whether running it again may help."""

    def __init__(self, reason: str, *, can_retry: bool = False):
        super().__init__(reason)
        self.can_retry = can_retry


class FolderBusy(Exception):
    """Another process is at work in the run folder; the message names the folder."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C came; the state is saved and the stage can be resumed."""


class RunFolder:
    """The paths of one run, its configuration and its stages' logs."""

    def __init__(self, path: Path | str):
        self.path = Path(path)

    @property
    def config(self) -> RunConfig:
        return read_config(self.path / "config.json")

    def stage(self, name: str) -> Path:
        """The stage's own folder, made if it is missing."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def product(self, stage: str) -> Path:
        return self.path / PRODUCTS[stage]

    def is_complete(self, stage: str) -> bool:
        return stage in PRODUCTS and self.product(stage).exists()

    def is_done(self, stage: str, options: Mapping[str, str]) -> bool:
        """Whether the stage is complete and of these values; one whose settings cannot be read is not."""
        with suppress(OSError, ValueError):
            return self.is_complete(stage) and not self._changed(stage, options)
        return False

    def begin(self, stage: str, options: Mapping[str, str]) -> None:
        """Keeps what a stage with a product is made of, its command line's options and a copy of config.json.

        Raises `StageError` if a product or a saved state of it stands that other values made.
        """
        if stage not in PRODUCTS:
            return
        own = self.path / stage
        if self.is_complete(stage) or self.has_state(stage):
            may_change = () if self.is_complete(stage) else MADE_ANEW.get(stage, ())
            changed = [name for name in self._changed(stage, options) if name not in may_change]
            if changed:
                raise self.other_values(stage, changed)
        if not self.is_complete(stage):
            read_config(self.path / "config.json")  # of one that cannot be read no copy is kept
            write_json(self.stage(stage) / "options.json", dict(options))
            write_text(own / "config.json", (self.path / "config.json").read_text(encoding="utf-8"))

    def _changed(self, stage: str, options: Mapping[str, str]) -> list[str]:
        """Keys and options that have not the values the stage was begun with, as far as these are known."""
        kept, config = self.path / stage / "options.json", self.path / stage / "config.json"
        changed = changed_keys(stage, read_config(config), self.config) if config.exists() else []
        before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else options
        names = sorted(name for name in before.keys() | options.keys() if before.get(name) != options.get(name))
        return changed + [f"--{name.replace('_', '-')}" for name in names]

    def has_state(self, stage: str) -> bool:
        """Whether the stage has saved anything to go on from."""
        return any((self.path / stage / "state").glob("[!.]*"))

    def other_values(self, stage: str, names: Sequence[str]) -> StageError:
        """Why the stage does not go on, or is not what is asked for: these settings have changed."""
        return StageError(
            f"{stage} was begun with other values of {', '.join(names)}: set them back, take a new run folder, or "
            f"remove {self.made_by(stage)}"
        )

    def other_contents(self, stage: str, names: Sequence[str]) -> StageError:
        """Why the stage does not go on: these files are no longer what it has learned from so far."""
        return StageError(
            f"{stage} was begun with other contents of {', '.join(names)}: set them back, take a new run folder, or "
            f"remove {self.made_by(stage)}"
        )

    def made_by(self, stage: str) -> str:
        """What is to be removed to have a stage made anew."""
        product = PRODUCTS[stage]
        return f"{stage}/" if product.startswith(f"{stage}/") else f"{stage}/, {product}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder is this process's, until it leaves or dies; raises `FolderBusy` while others are at work in it.

        Of the processes of one launch the first holds it for all, and the others, once it does, have a `share`.
        """
        with self._locked(".lock", fcntl.LOCK_EX):
            with self._locked(".lock.shares", fcntl.LOCK_EX):
                pass  # nobody is left of a launch whose first process is gone
            yield

    def share(self) -> AbstractContextManager[None]:
        """While this lasts no other launch gets the folder, though the process that holds it be gone."""
        return self._locked(".lock.shares", fcntl.LOCK_SH)

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        with (self.path / name).open("a+") as file:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderBusy(f"another process is at work in {self.path}: wait for it, or end it") from None
            except OSError:
                pass  # a file system without locks
            yield

    def log(self, stage: str) -> MetricsLog:
        return MetricsLog(self.stage(stage) / "metrics.jsonl", stage)


def _step_of(line: str) -> float:
    """The step of a line of metrics; of one that a loss of power left unreadable, one behind all others."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return math.inf


class MetricsLog:
    """A stage's `metrics.jsonl`: appended and flushed line by line, cut where a resumed stage goes on."""

    def __init__(self, path: Path, stage: str):
        self.path, self.stage, self.last_told = path, stage, -math.inf

    def cut(self, step: int) -> None:
        """Drops lines of steps after `step`, and a last line that a kill left half written."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or _step_of(line) > step:
                break
            kept.append(line)
        write_text(self.path, "".join(kept))

    def append(
        self,
        step: int,
        steps: int,
        metrics: Mapping[str, float] | None = None,
        *,
        message: str | None = None,
        seconds_left: float | None = None,
    ) -> None:
        record: dict[str, Any] = {"stage": self.stage, "step": step, "steps": steps, "time": time.time()}
        if seconds_left is not None:
            record["seconds_left"] = round(seconds_left, 1)
        if message:
            record["message"] = message
        record["metrics"] = {name: float(value) for name, value in (metrics or {}).items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if sys.stderr.isatty():
            self._tell(record)

    def _tell(self, record: Mapping[str, Any]) -> None:
        """A line for who watches a terminal: of steps that are quick, one in some seconds."""
        now, message = time.monotonic(), record.get("message")
        if message or now - self.last_told >= SECONDS_BETWEEN_LINES or record["step"] == record["steps"]:
            self.last_told = now
            left = f", {record['seconds_left'] / 60:.1f} min left" if "seconds_left" in record else ""
            said = f": {message}" if message else ""
            print(f"{self.stage} {record['step']}/{record['steps']}{left}{said}", file=sys.stderr)

    def records(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def write_text(path: Path, text: str) -> None:
    """The whole text or, after a kill, what was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, record: Any) -> None:
    write_text(path, json.dumps(record, ensure_ascii=False, indent=1) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; on leaving, its files are fsynced and it takes the name `path`.

    What a kill left of an earlier one goes first.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    for left in path.parent.glob(f".{escape(path.name)}.*/"):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for file in files_under(temporary):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if path.exists():
        shutil.rmtree(path)
    temporary.replace(path)
    sync_folder(path.parent)


def files_under(folder: Path) -> list[Path]:
    """All files, those of folders in it too: a tokenizer with several chat templates keeps them in one."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sync_folder(path: Path) -> None:
    """Makes the renames in a folder outlive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class StopSignal:
    """Whether SIGTERM or Ctrl-C has come; stages ask between two steps, save their state and raise `Stopped`."""

    def __init__(self) -> None:
        self.is_set = False

    def catch(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, *_: Any) -> None:
        self.is_set = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            # Not print: that may be what the signal came upon.
            os.write(2, b"stopping after this step; Ctrl-C again ends it at once\n")

    def is_agreed(self, processes: Processes = ALONE) -> bool:
        """Whether the signal has come to any process; all ask together, and all get the same answer."""
        return float(processes.sum(torch.tensor(float(self.is_set)))) > 0

    def check(self, processes: Processes = ALONE) -> None:
        """Raises `Stopped` in every process if the signal has come to any; call it where the state on disk is whole."""
        if self.is_agreed(processes):
            raise Stopped


def run_stage(
    stage: str,
    run: Callable[[RunFolder, StopSignal], None],
    path: Path | str,
    *,
    options: Mapping[str, str] | None = None,
) -> int:
    """Runs one stage in a run folder and returns its exit code; a complete stage is left as it is.

    `options` name what its product is made of besides the run folder: with others, or with other settings that it
    reads, it is neither taken up nor complete.
    """
    folder, stop, options, is_first = RunFolder(path), StopSignal(), options or {}, is_first_started()
    is_ours = is_first  # and with it error.json
    stop.catch()
    with ExitStack() as lock:  # around the handlers too: what they write is written while the folder is held
        try:
            if is_first and stage in PRODUCTS and not folder.is_done(stage, options):
                lock.enter_context(folder.held())
            if is_first and not folder.is_done(stage, options):
                (folder.path / "error.json").unlink(missing_ok=True)  # first, as a full disk may end what follows
                folder.begin(stage, options)
            if folder.is_complete(stage):
                if is_first:
                    print(f"{stage} is finished; remove {folder.made_by(stage)} to have it made anew")
                return COMPLETE
            if not is_first and stage in PRODUCTS:
                join_processes()  # which the first does when it holds the folder
                lock.enter_context(folder.share())
                is_ours = True
            run(folder, stop)
        except FolderBusy as busy:
            print(f"{stage}: {busy}", file=sys.stderr)
            return BUSY
        except Stopped:
            if is_first:
                print(f"{stage}: stopped, its state is saved; run it again to go on", file=sys.stderr)
            return STOPPED
        except Exception as error:
            ending = _explanation(error, stage)
            with suppress(OSError):  # where nothing can be written stderr alone says why
                if is_ours:
                    _keep_reason(folder, stage, ending)
            if not ending.says_all:
                raise
            print(f"{stage}: {ending.reason}", file=sys.stderr)
            return FAILED
    return COMPLETE


def _keep_reason(folder: RunFolder, stage: str, ending: _Ending) -> None:
    """Writes `error.json`, unless one stands: of several processes the first to fail knows why, the others lost it."""
    path = folder.path / "error.json"
    if not path.exists():
        write_json(path, {"stage": stage, "reason": ending.reason, "can_retry": ending.can_retry})


NO_ROOM = ("No space left on device", "File too large", "Disk quota exceeded")
# As gloo and NCCL say that another process is no longer there. A timeout need not be that.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
NO_MEMORY = ("out of memory", "can't allocate memory")  # as a GPU and a CPU say it
MEMORY_KEYS = {  # what bounds the memory of each stage; first, where there is one, what changes no result
    "pretrain": "pretrain.block_tokens",
    "sft": "sft.micro_tokens, sft.max_tokens",
    "reward": "max_prompt_tokens, max_completion_tokens",
    "ppo": "ppo.micro_tokens, ppo.samples",
    "evaluate": "evaluate.samples, max_prompt_tokens, max_completion_tokens",
    "generate": "max_prompt_tokens, max_completion_tokens",
    "score": "max_prompt_tokens, max_completion_tokens",
}


class _Ending(NamedTuple):
    """Why a stage has failed, for people; where the sentence does not say all, a traceback goes with it."""

    reason: str
    can_retry: bool = False
    says_all: bool = True


def _explanation(error: Exception, stage: str) -> _Ending:
    if isinstance(error, StageError):
        return _Ending(str(error), error.can_retry)
    if isinstance(error, ConfigError | DataError):
        return _Ending(str(error))
    if any(words in str(error) for words in NO_ROOM):  # safetensors has an error of its own for it
        return _Ending("The disk is full, or a file may not grow so large; make room and retry.", can_retry=True)
    if isinstance(error, FileNotFoundError):
        return _Ending(f"there is no {error.filename}" if error.filename else str(error))
    if isinstance(error, OSError) and error.filename:
        return _Ending(f"{error.filename}: {error.strerror}")
    if isinstance(error, RuntimeError) and any(words in str(error) for words in LOST):
        return _Ending("another process of the launch is gone; run the stage again to go on", can_retry=True)
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return _Ending(_advice(stage), can_retry=True, says_all=False)
    return _Ending(f"{type(error).__name__}: {error}", says_all=False)


def _advice(stage: str) -> str:
    """What to lower where memory ran out, and what of it a stage that has begun refuses."""
    advice = f"The machine ran out of memory; lower {MEMORY_KEYS[stage]}, or free some, and retry."
    free = {*COST_ALONE, *MADE_ANEW.get(stage, ())}
    refused = [key for key in MEMORY_KEYS[stage].split(", ") if key not in free]
    if stage not in PRODUCTS or not refused:
        return advice
    return f"{advice} Before lowering {', '.join(refused)}, remove {stage}/: the stage then begins anew."


class Pace:
    """Seconds left, from the mean of the steps this process has made."""

    def __init__(self, steps: int):
        self.steps, self.started, self.done = steps, time.monotonic(), 0

    def left(self, step: int) -> float:
        """Call once after each step, with its number from 1 to `steps`."""
        self.done += 1
        return (time.monotonic() - self.started) / self.done * (self.steps - step)
