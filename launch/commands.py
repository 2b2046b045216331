"""What `python -m launch` does, one function a command; each gives the exit code."""

import contextlib
import json
import os
import subprocess
import sys
import time

from config.environment import PROJECT_ROOT, Environment, load_environment
from launch import preparation, programs
from launch.base_model import prepare_base_model
from launch.failures import CannotStart
from launch.folder import exclusive
from launch.services import private_services
from launch.supervisor import Supervisor
from launch.whole import Whole, ask, child_environment, running, start_workers

PROGRESS_SECONDS = 2


def run(environment: Environment) -> int:
    """Everything, until Ctrl-C."""
    try:
        with running(environment) as whole:
            print(f"\n  Whetstone is at {page_address(environment)}\n  {sign_in(whole)}\n", flush=True)
            start_workers(whole)
            say_progress(whole)
            whole.supervisor.watch()
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    return 0


def demo(environment: Environment, arguments: list[str]) -> int:
    """`manage.py demo` against everything, on a data folder of its own that stays to be looked at."""
    command = [sys.executable, "manage.py", "demo", *arguments]
    unused = {"DATABASE_URL": "postgresql://localhost/unused", "CELERY_BROKER_URL": "redis://localhost"}
    asked = subprocess.run([*command, "--dry-run"], env=os.environ | unused, cwd=PROJECT_ROOT, check=False)
    if asked.returncode or {"-h", "--help", "--dry-run"} & set(arguments):
        return asked.returncode
    folder = environment.data_dir / time.strftime("demo-%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    models = environment.data_dir / "models"
    models.mkdir(exist_ok=True)
    (folder / "models").symlink_to(models)  # the default model is written once, not once a demonstration
    own = load_environment({**os.environ, "DATA_DIR": str(folder), "DATABASE_URL": "", "CELERY_BROKER_URL": ""})
    try:
        with running(own) as whole:
            print(f"\n  The demonstration runs at {page_address(own)}\n  {sign_in(whole)}", flush=True)
            print(f"  Its data folder is {folder}\n", flush=True)
            start_workers(whole)
            return run_beside(whole.supervisor, command)
    except KeyboardInterrupt:
        return 130


def prepare(environment: Environment) -> None:
    """What `run` does before the first program, for a database and a broker that are there."""
    base_model(environment)
    preparation.prepare()


def base_model(environment: Environment) -> None:
    """Write the default language model, if it is the one used and is not there yet."""
    if environment.has_default_base_model and not environment.default_base_model_folder.exists():
        prepare_base_model(environment.default_base_model_folder)


def program(environment: Environment, name: str) -> None:
    """Become one program: for containers and other supervisors."""
    by_name = {each.name: each for each in programs.all_programs(environment)}
    if name not in by_name:
        raise CannotStart(f"There is no program “{name}”: choose one of {', '.join(by_name)}.")
    os.chdir(PROJECT_ROOT)
    os.execvp(by_name[name].command[0], by_name[name].command)


def services(environment: Environment, arguments: list[str]) -> int:
    """The private PostgreSQL and Valkey alone, for as long as a command runs."""
    with exclusive(environment.data_dir), private_services(environment) as private:
        return subprocess.run(arguments, env=child_environment(environment, private.addresses), check=False).returncode


def run_beside(supervisor: Supervisor, command: list[str]) -> int:
    """Run a command while the rest is kept up."""
    process = subprocess.Popen(command, env=supervisor.environment, cwd=PROJECT_ROOT)
    try:
        while process.poll() is None:
            supervisor.watch(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.wait()
    return process.returncode


def page_address(environment: Environment) -> str:
    host = {"0.0.0.0": os.uname().nodename, "::": os.uname().nodename}.get(environment.host, environment.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{environment.port}/"


def sign_in(whole: Whole) -> str:
    if whole.login:
        return whole.login
    email = whole.environment.admin_email
    return f"login: {email}  (`.venv/bin/python manage.py changepassword {email}` sets another password)"


def say_progress(whole: Whole) -> None:
    """One line on what happens now, and one more at each change, until annotators have all they could want."""
    said = None
    while said != "ready to rank":
        line = what_happens_now(whole.environment)
        if line != said:
            whole.supervisor.say(line, "now")
            said = line
        whole.supervisor.watch(PROGRESS_SECONDS)


def what_happens_now(environment: Environment) -> str:
    """In words, from what /readyz says of the buffers: comparisons ready, comparisons wanted."""
    try:
        buffer = json.loads(ask(environment, "/readyz")[1])["buffer"]
        ready, wanted = buffer["ready"], buffer["wanted"]
    except (ValueError, KeyError, TypeError):  # nobody answers yet, or the database does not: the buffer is null
        return "starting the workers"
    if ready < wanted:
        return f"writing the first comparisons, {ready} of {wanted}"
    return "ready to rank"
