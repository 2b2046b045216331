"""The child process, with small programs in the place of the trainer; test_closed_loop.py crosses it for real."""

import json
import sys
import textwrap
from types import SimpleNamespace

import pytest
from django.utils import timezone

from trainer import program
from trainer.models import RunMetric, TrainingRun
from trainer.program import Cancelled, Interrupted, MetricsTail, StageFailed, run_stage

WRITE_LINE = """
import json, os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1]); (folder / "ppo").mkdir(exist_ok=True)
metrics = folder / "ppo" / "metrics.jsonl"
def line(step, **values):
    with metrics.open("a") as file:
        row = {"stage": "ppo", "step": step, "steps": 3, "seconds_left": 1.0, "metrics": values}
        file.write(json.dumps(row) + "\\n")
"""


@pytest.fixture
def run(policy, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    run = TrainingRun.objects.create(policy=policy, status="ppo", heartbeat_at=timezone.now())
    program.run_folder(run).mkdir(parents=True)
    return run


@pytest.fixture
def child(run, monkeypatch, tmp_path):
    """Put a small program in the trainer's place."""

    def arrange(source):
        path = tmp_path / "child.py"
        path.write_text(WRITE_LINE + textwrap.dedent(source))
        monkeypatch.setattr(program, "program", lambda stage, folder: [sys.executable, str(path), str(folder)])
        monkeypatch.setattr(program, "SECONDS_BETWEEN_LOOKS", 0.05)

    return arrange


def test_it_copies_metrics_and_progress(run, child):
    child("line(1, loss=0.5); line(2, loss=0.25)")
    run_stage(run, "ppo")
    run.refresh_from_db()
    assert (run.stage, run.step, run.steps, run.seconds_left) == ("ppo", 2, 3, 1.0)
    assert list(run.metrics.values_list("step", "values")) == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]


def test_it_starts_a_killed_child_again_and_keeps_the_newest_line_of_a_step(run, child):
    child("""
        if not metrics.exists():
            line(1, loss=9.0)
            os.kill(os.getpid(), signal.SIGKILL)
        resumed = folder / "resumed"; resumed.touch(); resumed.rename(metrics)
        line(1, loss=1.0); line(2, loss=0.5)
    """)
    run_stage(run, "ppo")
    assert list(run.metrics.values_list("step", "values")) == [(1, {"loss": 1.0}), (2, {"loss": 0.5})]


def test_it_gives_up_on_a_child_that_is_killed_without_a_step_forward(run, child):
    child("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StageFailed, match="memory") as failure:
        run_stage(run, "ppo")
    assert failure.value.can_retry


def test_it_waits_for_the_child_of_a_worker_that_died(run, child, monkeypatch):
    monkeypatch.setattr(program, "SECONDS_BETWEEN_TRIES", 0.01)
    child("""
        tries = folder / "tries"
        with tries.open("a") as file: file.write("x")
        if len(tries.read_text()) < 6: sys.exit(69)
        line(1, loss=0.5)
    """)
    run_stage(run, "ppo")
    assert run.metrics.get().values == {"loss": 0.5}


def test_it_waits_for_another_process_only_so_long(run, child, monkeypatch):
    monkeypatch.setattr(program, "SECONDS_BETWEEN_TRIES", 0.01)
    monkeypatch.setattr(program, "SECONDS_FOR_ANOTHER", 0.0)
    child("sys.exit(69)")
    with pytest.raises(StageFailed, match="Another process is still at work in the run's folder.") as failure:
        run_stage(run, "ppo")
    assert failure.value.can_retry


def test_it_says_the_trainers_own_reason(run, child):
    child("""
        (folder / "error.json").write_text(json.dumps({"stage": "ppo", "reason": "No prompts.", "can_retry": False}))
        sys.exit(1)
    """)
    with pytest.raises(StageFailed, match="No prompts.") as failure:
        run_stage(run, "ppo")
    assert not failure.value.can_retry


def test_it_waits_anew_for_another_process_after_a_child_that_ran(run, child, monkeypatch):
    monkeypatch.setattr(program, "SECONDS_BETWEEN_TRIES", 0.0)
    clock = iter([0.0, 1.0, 5000.0, 5001.0])
    stopped_clock = SimpleNamespace(monotonic=lambda: next(clock))
    codes = iter([69, -9, 69, 0])
    monkeypatch.setattr(program, "watch", lambda *_: next(codes))
    monkeypatch.setattr(program, "time", stopped_clock)
    run_stage(run, "ppo")


def test_it_takes_no_reason_of_another_stage(run, child):
    child("""
        (folder / "error.json").write_text(json.dumps({"stage": "sft", "reason": "No prompts.", "can_retry": False}))
        sys.exit('the disk is full')
    """)
    with pytest.raises(StageFailed, match="the disk is full"):
        run_stage(run, "ppo")


def test_it_says_the_last_line_of_a_trainer_that_left_no_reason(run, child):
    child("sys.exit('the disk is full')")
    with pytest.raises(StageFailed, match="the disk is full"):
        run_stage(run, "ppo")


STOPS_WHEN_TOLD = """
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), sys.exit(75)))
    line(1)
    while True: time.sleep(0.01)
"""


def test_a_cancel_reaches_the_child_which_saves_its_state(run, child):
    TrainingRun.objects.filter(pk=run.pk).update(cancel_requested_at=timezone.now())
    child(STOPS_WHEN_TOLD.replace("line(1)", ""))
    # The first look may come before the child has set its handler; a child that dies of SIGTERM is as cancelled.
    with pytest.raises(Cancelled):
        run_stage(run, "ppo")


def test_a_workers_stop_reaches_the_child_which_saves_its_state(run, child, monkeypatch):
    child(STOPS_WHEN_TOLD)
    copy_new = MetricsTail.copy_new

    def stop_once_it_runs(tail):
        copy_new(tail)
        if RunMetric.objects.exists() or tail.path.exists():
            program.worker_is_stopping.set()

    monkeypatch.setattr(MetricsTail, "copy_new", stop_once_it_runs)
    try:
        with pytest.raises(Interrupted):
            run_stage(run, "ppo")
    finally:
        program.worker_is_stopping.clear()
    assert (program.run_folder(run) / "saved").exists()


def test_a_half_written_line_is_read_when_it_is_whole(run, tmp_path):
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"stage": "ppo", "step": 1, "steps": 2, "metrics": {"loss": 1.0}})
    path.write_text(line[:20])
    tail = MetricsTail(run, "ppo", path)
    tail.copy_new()
    assert not run.metrics.exists()
    path.write_text(line + "\n")
    tail.copy_new()
    assert run.metrics.get().values == {"loss": 1.0}
