"""`launch run` as it is: stopped, it leaves nothing; killed in part, it heals; killed whole, the next takes over."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from config.environment import PROJECT_ROOT
from launch.leftovers import is_alive
from tests.installation import Installation, wait_until
from tests.tiny_models import make_llama

pytestmark = [pytest.mark.loop, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def installation():
    folder = Path(tempfile.mkdtemp(prefix="whetstone-"))
    installation = Installation(folder / "data", make_llama(folder / "tiny"))
    yield installation
    installation.stop()
    shutil.rmtree(folder)


@pytest.fixture
def whetstone(installation):
    """The one installation of this file, running, with all its workers."""
    if installation.process is None or installation.process.poll() is not None:
        installation.start()
    wait_until(lambda: len(workers(installation)) == 3, 60, installation.said)
    return installation


def everything(whetstone) -> list[psutil.Process]:
    return whetstone.process_tree_root().children(recursive=True)


def workers(whetstone) -> list[psutil.Process]:
    return whetstone.programs("worker")


def test_it_stops_all_of_it_and_says_so(whetstone):
    family = everything(whetstone)
    assert (whetstone.folder / "services.json").exists()
    whetstone.stop()
    assert whetstone.process.returncode == 0
    assert whetstone.said().endswith("Stopped.\n")
    assert not [process for process in family if is_alive(process)]
    assert not (whetstone.folder / "services.json").exists()


def test_it_heals_when_its_parts_are_killed(whetstone):
    before = everything(whetstone)
    web, train, postgres, valkey = (
        whetstone.programs("gunicorn")[0],
        whetstone.programs("worker", "train")[0],
        next(each for each in before if each.name() == "postgres"),
        next(each for each in before if each.name() == "valkey-server"),
    )
    for process in (web, train, postgres, valkey):
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not [each for each in (web, train, postgres, valkey) if is_alive(each)], 30, whetstone.said)
    wait_until(lambda: whetstone.is_up() and len(workers(whetstone)) == 3, 60, whetstone.said)
    assert whetstone.get("/pools/")["results"]


def test_it_takes_over_from_a_supervisor_that_was_killed(whetstone):
    orphans = everything(whetstone)
    whetstone.process.kill()
    whetstone.process.wait()
    assert [process for process in orphans if is_alive(process)]
    whetstone.start()
    wait_until(lambda: not [process for process in orphans if is_alive(process)], 60, whetstone.said)
    wait_until(whetstone.is_up, 60, whetstone.said)


def test_it_refuses_a_second_start_on_the_same_folder(whetstone):
    command = [sys.executable, "-m", "launch", "run"]
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=whetstone.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == f"Whetstone already runs on {whetstone.folder} (process {whetstone.process.pid}).\n"


def test_it_tells_other_terminals_where_its_database_is(whetstone):
    addresses = json.loads((whetstone.folder / "services.json").read_text())
    assert str(whetstone.folder / "postgres") in addresses["database_url"]
    assert (whetstone.folder / "services.json").stat().st_mode & 0o077 == 0
    assert whetstone.manage("showmigrations", "--plan")
