"""launch.supervisor on small programs: what dies comes back, what is stopped stays away, and so do its children."""

import io
import os
import signal
import sys
import time

import pytest

from launch.leftovers import marked
from launch.supervisor import Program, Supervisor, how_it_ended

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("child", child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def supervisor(tmp_path, output):
    supervisor = Supervisor(tmp_path, dict(os.environ), {}, output)
    yield supervisor
    supervisor.stop()


def python(name, code, **options):
    return Program(name, [sys.executable, "-c", code], **options)


def watch_until(supervisor, is_so, seconds=20):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        supervisor.watch(0.05)


def test_it_prints_what_a_program_says_under_its_name(supervisor, output):
    supervisor.start(python("web", "print('hello'); print(); print('你好'); import time; time.sleep(60)"))
    watch_until(supervisor, lambda: "你好" in output.getvalue())
    assert [line.split(" ", 1)[1] for line in output.getvalue().splitlines()] == [
        "web             | hello",
        "web             | 你好",
    ]


def test_it_starts_a_killed_program_again_and_says_so(supervisor, output):
    program = python("web", "import time; time.sleep(60)")
    supervisor.start(program)
    first = program.process
    first.send_signal(signal.SIGKILL)
    watch_until(supervisor, lambda: program.process not in (None, first))
    assert "web was killed (SIGKILL); starting it again in 2 s" in output.getvalue()


def test_it_waits_longer_after_each_quick_death_up_to_half_a_minute(supervisor):
    program = python("web", "raise SystemExit(3)")
    pauses = []
    for _ in range(6):
        program.start_at = 0.0
        supervisor.start(program)
        program.process.wait()
        supervisor.revive()
        pauses.append(program.pause_seconds)
    assert pauses == [2, 4, 8, 16, 30, 30]


def test_it_ends_the_children_of_a_dead_program_before_it_starts_again(supervisor, tmp_path):
    program = python("worker-train", PARENT)
    supervisor.start(program)
    watch_until(supervisor, lambda: len(marked(tmp_path, "worker-train")) == 2)
    program.process.send_signal(signal.SIGKILL)
    watch_until(supervisor, lambda: program.process is None)
    assert marked(tmp_path, "worker-train") == []


def test_it_stops_everything_children_included(supervisor, tmp_path):
    supervisor.start(python("worker-train", PARENT))
    supervisor.start(python("web", "import time; time.sleep(60)"))
    watch_until(supervisor, lambda: len(marked(tmp_path)) == 3)
    supervisor.stop()
    assert marked(tmp_path) == []


def test_it_starts_a_dead_service_again(tmp_path):
    class Service:
        def __init__(self):
            self.starts = 0
            self.process = None

        def start(self):
            self.starts += 1
            self.process = type("Dead", (), {"poll": lambda _: 1, "returncode": 1})()

    service = Service()
    service.start()
    Supervisor(tmp_path, {}, {"valkey": service}, io.StringIO()).revive()
    assert service.starts == 2


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was killed (SIGKILL)"), (0, "ended with code 0"), (3, "ended with code 3")]
)
def test_it_puts_an_exit_code_into_words(code, words):
    assert how_it_ended(code) == words
