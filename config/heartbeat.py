"""Every worker and the clock say in Valkey that they live, from a thread, so that a long task does not silence them.

Celery's own ping is answered between tasks only, and a worker that generates or trains is busy for minutes.
"""

import threading
import time
from contextlib import suppress

import redis
from django.conf import settings

PROGRAMS = ("default", "generate", "train", "beat")
SECONDS_BETWEEN_BEATS = 5
SECONDS_UNTIL_DEAD = 20


def key(program: str) -> str:
    return f"whetstone:alive:{program}"


def connect() -> redis.Redis:
    return redis.Redis.from_url(settings.ENVIRONMENT.valkey_url, socket_timeout=2, socket_connect_timeout=2)


def living_programs() -> set[str]:
    """Which of PROGRAMS have said so lately. Raises redis.RedisError without a broker."""
    with connect() as client:
        found = client.mget([key(program) for program in PROGRAMS])
    return {program for program, value in zip(PROGRAMS, found, strict=True) if value}


def say_alive(program: str) -> None:
    with connect() as client:
        client.set(key(program), "1", ex=SECONDS_UNTIL_DEAD)


def keep_saying_alive(program: str) -> None:
    """Say so from now on, for as long as this process lives."""

    def beat() -> None:
        while True:
            # Without a broker there is nobody to tell, and /readyz knows that by itself.
            with suppress(redis.RedisError):
                say_alive(program)
            time.sleep(SECONDS_BETWEEN_BEATS)

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
