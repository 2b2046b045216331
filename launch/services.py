"""The private PostgreSQL and Valkey of a data folder, for as long as a `with` lasts."""

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from config.environment import Environment
from launch.postgresql import PrivatePostgres
from launch.supervisor import Service
from launch.valkey import PrivateValkey


@dataclass
class Services:
    """`addresses` are the environment variables to hand on; `running` are the servers that are ours to watch."""

    addresses: dict[str, str]
    running: dict[str, Service] = field(default_factory=dict)


@contextlib.contextmanager
def private_services(environment: Environment) -> Iterator[Services]:
    """Start what DATABASE_URL and CELERY_BROKER_URL do not name; services.json tells other terminals where it is."""
    services = Services({"DATABASE_URL": environment.database_url, "CELERY_BROKER_URL": environment.celery_broker_url})
    folder, logs = environment.data_dir, environment.data_dir / "logs"
    if not environment.database_url:
        services.running["postgres"] = PrivatePostgres(folder / "postgres", logs / "postgres.log")
        services.addresses["DATABASE_URL"] = services.running["postgres"].url
    if not environment.celery_broker_url:
        services.running["valkey"] = PrivateValkey(folder / "valkey", logs / "valkey.log")
        services.addresses["CELERY_BROKER_URL"] = services.running["valkey"].url
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda service: service.start(), services.running.values()))
        write_addresses(environment, services.addresses)
        yield services
    finally:
        environment.services_file.unlink(missing_ok=True)
        for service in services.running.values():
            service.stop()


def write_addresses(environment: Environment, addresses: dict[str, str]) -> None:
    """Leave the addresses in DATA_DIR/services.json, readable by their owner alone: an address may hold a password."""
    temporary = environment.services_file.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"database_url": addresses["DATABASE_URL"], "broker_url": addresses["CELERY_BROKER_URL"]}, file)
    temporary.replace(environment.services_file)
