"""The private PostgreSQL and Valkey: nothing is lost by kill -9, and what a killed supervisor left is no hindrance."""

import os
import signal
import socket

import psycopg2
import pytest
import redis

from launch.failures import CannotStart
from launch.postgresql import PrivatePostgres
from launch.sockets import socket_folder
from launch.valkey import PrivateValkey


@pytest.fixture
def postgres(short_folder):
    server = PrivatePostgres(short_folder / "postgres", short_folder / "postgres.log", is_durable=False)
    yield server
    server.stop()


@pytest.fixture
def valkey(short_folder):
    server = PrivateValkey(short_folder / "valkey", short_folder / "valkey.log")
    yield server
    server.stop()


def run_sql(url, statement):
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def redis_client(server):
    return redis.Redis(unix_socket_path=str(server.socket))


def test_postgres_keeps_what_was_committed_when_it_is_killed(postgres):
    postgres.start()
    postgres.stop()
    postgres.is_durable = True  # only now: initdb's fsync is slow, and not what is tested
    url = postgres.start()
    run_sql(url, "CREATE TABLE ranking AS SELECT 7 AS rank")
    postgres.process.send_signal(signal.SIGKILL)
    postgres.process.wait()
    assert postgres.start() == url
    assert run_sql(url, "SELECT rank FROM ranking") == [(7,)]


def test_postgres_takes_over_from_a_server_whose_supervisor_was_killed(postgres):
    orphan = PrivatePostgres(postgres.folder, postgres.log, is_durable=False)
    run_sql(orphan.start(), "CREATE TABLE ranking AS SELECT 7 AS rank")
    url = postgres.start()
    assert orphan.process.wait(5) == 0
    assert run_sql(url, "SELECT rank FROM ranking") == [(7,)]


def test_postgres_is_not_fooled_by_the_number_of_a_process_that_is_another_by_now(postgres):
    url = postgres.start()
    lock = (postgres.folder / "postmaster.pid").read_text().splitlines()
    postgres.process.send_signal(signal.SIGKILL)
    postgres.process.wait()
    (postgres.folder / "postmaster.pid").write_text("\n".join(["1", *lock[1:]]) + "\n")
    assert postgres.start() == url


def test_postgres_begins_anew_after_a_kill_in_the_middle_of_its_making(postgres):
    half_made = postgres.folder.with_name("postgres.new")
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    assert run_sql(postgres.start(), "SELECT 1") == [(1,)]
    assert not half_made.exists()


def test_postgres_says_where_to_look_when_it_cannot_start(postgres):
    postgres.start()
    postgres.stop()
    (postgres.folder / "PG_VERSION").write_text("9\n")
    with pytest.raises(CannotStart, match="PostgreSQL stopped while starting; .*postgres.log says: .*incompatible"):
        postgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another account")
def test_postgres_starts_though_a_folder_above_was_closed_to_its_account(postgres):
    url = postgres.start()
    postgres.stop()
    postgres.folder.parent.chmod(0o700)
    assert postgres.start() == url


def test_postgres_listens_on_no_network(postgres):
    assert run_sql(postgres.start(), "SHOW listen_addresses") == [("",)]


def test_valkey_keeps_a_queue_when_it_is_killed(valkey):
    valkey.start()
    redis_client(valkey).lpush("train", "a task")
    valkey.process.send_signal(signal.SIGKILL)
    valkey.process.wait()
    valkey.start()
    assert redis_client(valkey).lrange("train", 0, -1) == [b"a task"]


def test_valkey_takes_over_from_a_server_whose_supervisor_was_killed(valkey):
    orphan = PrivateValkey(valkey.folder, valkey.log)
    orphan.start()
    redis_client(orphan).lpush("train", "a task")
    valkey.start()
    assert orphan.process.wait(5) == 0
    assert redis_client(valkey).lrange("train", 0, -1) == [b"a task"]


def test_valkey_says_where_to_look_when_it_cannot_start(valkey):
    valkey.start()
    redis_client(valkey).lpush("train", "a task")
    valkey.stop()
    for file in valkey.folder.glob("appendonlydir/*.manifest"):
        file.write_text("nonsense\n")
    with pytest.raises(CannotStart, match="Valkey did not start; .*valkey.log says why"):
        valkey.start()


def test_a_socket_never_has_too_long_a_path(tmp_path):
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    folder = socket_folder(deep)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / ".s.PGSQL.5432.lock"))
    (folder / ".s.PGSQL.5432.lock").unlink()
    assert folder.stat().st_mode & 0o077 == 0
    folder.rmdir()
