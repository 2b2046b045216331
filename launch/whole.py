"""The whole system on one machine: start it in the order that gets a page up first, keep it up, stop it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.environment import PROJECT_ROOT, Environment
from launch import programs
from launch.failures import CannotStart
from launch.folder import exclusive
from launch.leftovers import end_processes, mark, marked
from launch.services import private_services
from launch.stamps import is_prepared, note_prepared
from launch.supervisor import Supervisor

PAGE_SECONDS = 120
LEFTOVER_GRACE_SECONDS = 20


@dataclass
class Whole:
    """The system as far as it runs; `login` is the line about the first manager, where this start made one."""

    environment: Environment
    supervisor: Supervisor
    login: str = ""


@contextlib.contextmanager
def running(environment: Environment) -> Iterator[Whole]:
    """A page answers inside the `with`, the workers run after `start_workers`, nothing does in the end.

    Web comes first, the rest would take the processor from it. Raises CannotStart.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with exclusive(environment.data_dir):
        end_processes(marked(environment.data_dir), grace_seconds=LEFTOVER_GRACE_SECONDS)
        check_port(environment.host, environment.port)
        with private_services(environment) as services:
            variables = child_environment(environment, services.addresses)
            whole = Whole(environment, Supervisor(environment.data_dir, variables, services.running))
            try:
                start_pages(whole)
                yield whole
            finally:
                whole.supervisor.stop()


def start_pages(whole: Whole) -> None:
    if not is_prepared(whole.environment):
        whole.login = prepare(whole)
        note_prepared(whole.environment)
    whole.supervisor.start(programs.web(whole.environment))
    wait_for_page(whole)


def start_workers(whole: Whole) -> None:
    """The rest of the programs, once the base model is there."""
    environment, supervisor = whole.environment, whole.supervisor
    supervisor.start(programs.beat(environment))
    if environment.has_default_base_model and not environment.default_base_model_folder.exists():
        supervisor.say("preparing the default language model, once")
        if supervisor.run("base-model", [sys.executable, "-m", "launch", "base-model"]):
            raise CannotStart("The default language model could not be prepared; the lines above say why.")
    for program in programs.workers(environment):
        supervisor.start(program)


def child_environment(environment: Environment, addresses: dict[str, str]) -> dict[str, str]:
    """What every program gets, beside what this one was given."""
    own = {**addresses, "DATA_DIR": str(environment.data_dir)}
    # Torch's idle threads sleep instead of spinning: the programs share the processor (see trainer/program.py).
    own["OMP_WAIT_POLICY"] = "PASSIVE"
    if not environment.has_default_base_model:
        own["BASE_MODEL"] = environment.base_model
    if Path(environment.base_model).is_absolute():
        own["HF_HUB_OFFLINE"] = "1"  # a model that is a folder needs no hub
    own |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "DJANGO_SETTINGS_MODULE": "config.settings"}
    # Celery says so in five lines per worker; that PostgreSQL alone refuses root is in docs/operations.md.
    own["PYTHONWARNINGS"] = "ignore:You're running the worker with superuser privileges"
    return {**os.environ, **own}


def prepare(whole: Whole) -> str:
    """Run launch.preparation, show what it says, and give its line about a first manager, if there is one."""
    print("Preparing the database and the pages", flush=True)
    login = ""
    # Out of reach of the terminal's Ctrl-C, which would leave half of it, and within reach of the next start.
    with subprocess.Popen(
        [sys.executable, "-m", "launch.preparation"],
        env=whole.supervisor.environment | mark(whole.environment.data_dir, "preparation"),
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            login = line.strip() if line.startswith("login:") else login
    if process.returncode:
        raise CannotStart("The database or the pages could not be prepared; the lines above say why.")
    return login


def check_port(host: str, port: int) -> None:
    """Say early, and in a sentence, what the web server would say late."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except PermissionError:
        raise CannotStart(f"PORT is {port}: this account may not listen there; choose one above 1023.") from None
    except socket.gaierror:
        raise CannotStart(f"HOST is “{host}”: it must be an address of this machine.") from None
    except OSError as error:
        raise CannotStart(
            f"Port {port} of {host} cannot be had ({error.strerror}): end what uses it, or set PORT to another."
        ) from None


def wait_for_page(whole: Whole) -> None:
    deadline = time.monotonic() + PAGE_SECONDS
    while ask(whole.environment, "/healthz")[0] >= 500:
        if time.monotonic() > deadline:
            raise CannotStart(f"No page came within {PAGE_SECONDS} seconds; the lines above say why.")
        whole.supervisor.watch(0.1)


def ask(environment: Environment, path: str) -> tuple[int, bytes]:
    """Status and body of a page of ours; 503 while nobody listens."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(environment.host, environment.host)  # noqa: S104
    headers = {"Host": environment.allowed_hosts[0].lstrip(".")}
    if environment.https_only:
        headers["X-Forwarded-Proto"] = "https"
    connection = http.client.HTTPConnection(host, environment.port, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 503, b""
