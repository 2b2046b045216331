"""A whole installation for a test: `launch run` on a data folder and a port of its own, as `make run` starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from config.environment import PROJECT_ROOT
from launch.leftovers import is_alive

SERVICE_VARIABLES = ("DATABASE_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE", "SECRET_KEY")


class Installation:
    """Starts, stops and kills the system, and talks to it as a script would: by commands and by the API."""

    def __init__(self, folder: Path, base_model: Path):
        self.folder, self.log = folder, folder / "launch.log"
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.environment = {name: value for name, value in os.environ.items() if name not in SERVICE_VARIABLES} | {
            "DATA_DIR": str(folder),
            "PORT": str(self.port),
            "BASE_MODEL": str(base_model),
            "ADMIN_PASSWORD": "a password for the tests",
            "WEB_WORKERS": "1",
        }
        self.process: subprocess.Popen | None = None
        self.token = ""

    def start(self) -> "Installation":
        self.folder.mkdir(exist_ok=True, parents=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "launch", "run"],
                cwd=PROJECT_ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        wait_until(self.is_up, 120, self.said)
        self.token = self.token or self.manage("token", "tester", "--role", "manager").split()[-1]
        return self

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(120)

    def kill_everything(self) -> None:
        """kill -9 of the supervisor and all it started, PostgreSQL and Valkey among them."""
        root = self.process_tree_root()
        family = [root, *root.children(recursive=True), *self.processes()]
        for each in family:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=20)
        self.process.wait(20)

    def process_tree_root(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    def processes(self) -> list[psutil.Process]:
        """Every process on this machine that names the data folder."""
        return [each for each in psutil.process_iter() if str(self.folder) in " ".join(command(each))]

    def programs(self, *words: str) -> list[psutil.Process]:
        """Processes of this installation whose command line has all of `words`."""
        return [
            each
            for each in self.process_tree_root().children(recursive=True)
            if set(words) <= set(command(each)) and is_alive(each)
        ]

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            return httpx.get(f"{self.address}/healthz", timeout=5).is_success
        except httpx.TransportError:
            return False

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT_ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def set_policy(self, **fields) -> None:
        """Change the one policy. The recipe and the gate have no call of their own in the API yet."""
        values = json.dumps(fields)
        self.manage(
            "shell",
            "--verbosity=0",
            "-c",
            f"import json; from annotate.models import Policy; Policy.objects.update(**json.loads({values!r}))",
        )

    def get(self, path: str) -> dict:
        return self.call("GET", path).json()

    def call(self, method: str, path: str, **options) -> httpx.Response:
        headers = {"Authorization": f"Token {self.token}"}
        answer = httpx.request(method, f"{self.address}/api/v1{path}", headers=headers, timeout=30, **options)
        assert answer.is_success, answer.text[:2000]
        return answer

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def wait_until(condition: Callable[[], object], seconds: float, explain: Callable[[], str]) -> object:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    raise AssertionError(f"It did not happen in {seconds} s.\n{explain()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
