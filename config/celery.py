"""Celery: three queues (default, generate, train) and the tick."""

import os

from celery import Celery
from celery.signals import beat_init, worker_ready

from config.heartbeat import keep_saying_alive

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("whetstone")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def worker_lives(sender, **_kwargs) -> None:
    """A worker is named after its queue: generate@host."""
    keep_saying_alive(sender.hostname.partition("@")[0])


@beat_init.connect
def clock_lives(**_kwargs) -> None:
    keep_saying_alive("beat")
