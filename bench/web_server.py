"""The web server and the PostgreSQL that `make run` starts, in a folder of their own: for `bench.web`, `bench.page`."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch.postgresql import PrivatePostgres


@dataclass(frozen=True)
class Site:
    """A database, and what starts the web server on it."""

    folder: Path
    postgres: PrivatePostgres
    port: int

    @contextmanager
    def served(self) -> Iterator[subprocess.Popen]:
        from config.environment import load_environment
        from launch.programs import web

        server = subprocess.Popen(web(load_environment()).command)
        try:
            _wait_for(self.port, server)
            yield server
        finally:
            server.terminate()
            server.wait(20)


@contextmanager
def site_in(folder: Path) -> Iterator[Site]:
    """An empty migrated database, with Django set up on it. Once in a process."""
    postgres, port = PrivatePostgres(folder / "postgres", folder / "postgres.log"), _free_port()
    os.environ |= {"DATA_DIR": str(folder), "DATABASE_URL": postgres.start(), "HOST": "127.0.0.1", "PORT": str(port)}
    os.environ |= {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "DJANGO_SETTINGS_MODULE": "config.settings"}
    try:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        call_command("collectstatic", "--noinput", verbosity=0)
        yield Site(folder, postgres, port)
    finally:
        postgres.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _attempt in range(200):
        if server.poll() is not None:
            sys.exit("The web server stopped while starting.")
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=1).request("GET", "/account/login/")
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("The web server did not start within 20 seconds.")
