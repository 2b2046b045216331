"""/healthz and /readyz: what a supervisor or a load balancer may rely on."""

import pytest
import redis
from django.db import OperationalError

from config import health
from config.heartbeat import PROGRAMS, connect, key, living_programs, say_alive


@pytest.fixture
def heartbeats(broker):
    """Have programs say that they live; silence again at the end."""
    yield lambda *programs: [say_alive(program) for program in programs]
    with connect() as client:
        client.delete(*(key(program) for program in PROGRAMS))


def test_healthz_answers_anybody_and_asks_nobody(client):
    response = client.get("/healthz")
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]


@pytest.mark.django_db
def test_readyz_is_ready_when_every_program_lives(client, heartbeats):
    heartbeats(*PROGRAMS)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "database": True,
        "broker": True,
        "programs": {"default": True, "generate": True, "train": True, "beat": True},
        "buffer": {"ready": 0, "wanted": 0},
    }


@pytest.mark.django_db
def test_readyz_names_the_program_that_is_silent(client, heartbeats):
    heartbeats("default", "train", "beat")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["programs"] == {"default": True, "generate": False, "train": True, "beat": True}


@pytest.mark.django_db
def test_readyz_says_when_there_is_no_broker(client, monkeypatch):
    monkeypatch.setattr(health, "living_programs", raises(redis.ConnectionError("nobody there")))
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["broker"] is False
    assert response.json()["database"] is True


def test_readyz_says_when_there_is_no_database(client, monkeypatch, heartbeats):
    monkeypatch.setattr(health, "buffer_progress", raises(OperationalError("nobody there")))
    heartbeats(*PROGRAMS)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] is False
    assert response.json()["broker"] is True


def test_a_program_is_alive_for_a_while_after_it_said_so(heartbeats):
    say_alive("generate")
    assert living_programs() == {"generate"}
    with connect() as client:
        assert 15 < client.ttl(key("generate")) <= 20


def raises(error):
    def raising(*_args):
        raise error

    return raising
