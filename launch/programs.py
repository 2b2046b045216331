"""The programs Whetstone is made of: web, the three workers and beat (docs/operations.md has the table)."""

import sys

from config.environment import Environment
from launch.supervisor import Program

PYTHON = sys.executable
CELERY = [PYTHON, "-m", "celery", "--quiet", "--app", "config.celery"]


def all_programs(environment: Environment) -> list[Program]:
    return [web(environment), beat(environment), *workers(environment)]


def web(environment: Environment) -> Program:
    host = f"[{environment.host}]" if ":" in environment.host else environment.host
    command = [PYTHON, "-m", "gunicorn", "config.wsgi", "--bind", f"{host}:{environment.port}", "--preload"]
    command += ["--workers", str(environment.web_workers), "--threads", str(environment.web_threads)]
    command += ["--log-level", environment.log_level.lower(), "--graceful-timeout", "8", "--no-control-socket"]
    if environment.trust_proxy:
        command += ["--forwarded-allow-ips", "*"]
    return Program("web", command)


def workers(environment: Environment) -> list[Program]:
    """`generate` and `train` do one task at a time in the worker's own process: that is where the model lies."""
    return [
        Program("worker-default", worker_command(environment, "default", "--pool", "threads", "--concurrency", "2")),
        Program("worker-generate", worker_command(environment, "generate", "--pool", "solo"), nice=5),
        Program("worker-train", worker_command(environment, "train", "--pool", "solo"), nice=10, grace_seconds=60),
    ]


def worker_command(environment: Environment, queue: str, *options: str) -> list[str]:
    command = [*CELERY, "worker", "--queues", queue, "--hostname", f"{queue}@%h", *options]
    return [*command, "--loglevel", environment.log_level, "--without-gossip", "--without-mingle"]


def beat(environment: Environment) -> Program:
    schedule = str(environment.data_dir / "celerybeat-schedule")
    return Program("beat", [*CELERY, "beat", "--schedule", schedule, "--pidfile=", "--loglevel", environment.log_level])
