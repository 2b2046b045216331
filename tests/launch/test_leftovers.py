"""launch.leftovers: whatever was started for a data folder is found and ended, and nobody else."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from launch.leftovers import end_processes, is_alive, mark, marked

SLEEP = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); {SLEEP}"
# Starts a child in a session of its own, says its number, and leaves it behind.
DESERTER = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True).pid, flush=True)
"""


@pytest.fixture
def spawn():
    started = []

    def start(code, environment, **options):
        started.append(subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment}, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def pids(processes):
    return {process.pid for process in processes}


def eventually_marked(data_dir, name=""):
    """The mark shows when the new process has become the program it is to run."""
    for _ in range(200):
        if found := marked(data_dir, name):
            return found
        time.sleep(0.01)
    return []


def test_it_finds_the_processes_of_one_data_folder_and_of_one_name(spawn, tmp_path):
    web = spawn(SLEEP, mark(tmp_path, "web"))
    beat = spawn(SLEEP, mark(tmp_path, "beat"))
    spawn(SLEEP, mark(tmp_path / "other", "web"))
    for name in ("web", "beat"):
        eventually_marked(tmp_path, name)
    assert pids(marked(tmp_path)) == {web.pid, beat.pid}
    assert pids(marked(tmp_path, "web")) == {web.pid}


def test_it_finds_what_a_dead_process_left_behind_in_a_session_of_its_own(spawn, tmp_path):
    deserter = spawn(DESERTER, mark(tmp_path, "worker-train"), stdout=subprocess.PIPE)
    orphan = int(deserter.stdout.readline())
    deserter.wait()
    assert pids(eventually_marked(tmp_path)) == {orphan}
    end_processes(marked(tmp_path), grace_seconds=5)
    assert not psutil.pid_exists(orphan) or not is_alive(psutil.Process(orphan))


def test_it_ends_politely_first_and_then_by_force(spawn, tmp_path):
    polite = spawn(SLEEP, mark(tmp_path, "polite"))
    stubborn = spawn(STUBBORN, mark(tmp_path, "stubborn"), stdout=subprocess.PIPE)
    stubborn.stdout.readline()
    eventually_marked(tmp_path, "polite")
    end_processes(marked(tmp_path), grace_seconds=0.5)
    assert polite.wait(5) == -signal.SIGTERM
    assert stubborn.wait(5) == -signal.SIGKILL


def test_it_never_finds_itself_or_its_parents(tmp_path):
    code = f"from pathlib import Path; from launch.leftovers import marked; print(marked(Path({str(tmp_path)!r})))"
    environment = {**os.environ, **mark(tmp_path, "web"), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
