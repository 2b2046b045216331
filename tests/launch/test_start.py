"""Small things `launch` looks after before anything starts."""

import gettext
import os
import socket
import subprocess
import sys

import pytest

from config.environment import PROJECT_ROOT, load_environment
from launch.failures import CannotStart
from launch.folder import exclusive
from launch.logs import open_log
from launch.stamps import is_prepared, note_prepared
from launch.translations import compile_translations
from launch.whole import check_port

CATALOGUE = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "Rank"\nmsgstr "排序"\n'


def test_it_says_which_port_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotStart, match=f"Port {port} of 127.0.0.1 cannot be had .* set PORT to another"):
            check_port("127.0.0.1", port)


def test_it_says_when_the_host_is_none_of_this_machine():
    with pytest.raises(CannotStart, match="Port 8000 of 192.0.2.1 cannot be had"):
        check_port("192.0.2.1", 8000)
    with pytest.raises(CannotStart, match="HOST is “no such host”: it must be an address of this machine"):
        check_port("no such host", 8000)


def test_it_lets_one_supervisor_at_a_time_have_a_data_folder(tmp_path):
    sentence = rf"already runs on {tmp_path} \(process {os.getpid()}\)"
    with exclusive(tmp_path), pytest.raises(CannotStart, match=sentence), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass


def test_it_gets_the_data_folder_of_a_supervisor_that_was_killed(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from launch.folder import exclusive
with exclusive(Path({str(tmp_path)!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=False).returncode == -9
    with exclusive(tmp_path):
        assert (tmp_path / "launch.lock").read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("argument", "sentence"), [("--oracle=nobody", "There is no oracle “nobody”"), ("--turn=x", "--turns: invalid int")]
)
def test_a_demonstration_with_a_wrong_argument_starts_nothing(tmp_path, argument, sentence):
    command = [sys.executable, "-m", "launch", "demo", "--", argument]
    environment = os.environ | {"DATA_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode
    assert sentence in done.stderr
    assert not list(tmp_path.glob("demo-*"))


def test_it_compiles_a_translation_once(tmp_path):
    folder = tmp_path / "zh_Hans" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "django.po").write_text(CATALOGUE, encoding="utf-8")
    assert compile_translations(tmp_path) == [folder / "django.mo"]
    assert compile_translations(tmp_path) == []
    with open(folder / "django.mo", "rb") as file:
        assert gettext.GNUTranslations(file).gettext("Rank") == "排序"
    os.utime(folder / "django.mo", (1, 1))
    assert compile_translations(tmp_path) == [folder / "django.mo"]


def test_it_prepares_again_what_another_cluster_or_a_database_elsewhere_may_lack(tmp_path):
    environment = load_environment({"DATA_DIR": str(tmp_path)})
    cluster = tmp_path / "postgres" / "PG_VERSION"
    cluster.parent.mkdir()
    cluster.write_text("18\n")
    assert not is_prepared(environment)
    note_prepared(environment)
    assert is_prepared(environment)
    elsewhere = load_environment({"DATA_DIR": str(tmp_path), "DATABASE_URL": "postgresql://db.example/name"})
    assert not is_prepared(elsewhere)
    os.utime(cluster, (1, 1))
    assert not is_prepared(environment)


def test_it_begins_a_grown_log_anew(tmp_path):
    log = tmp_path / "logs" / "postgres.log"
    for _ in range(2):
        with open_log(log) as file:
            file.write(b"x" * 10_000_001)
    with open_log(log) as file:
        assert file.tell() == 0
    assert (tmp_path / "logs" / "postgres.log.old").stat().st_size == 20_000_002 // 2


def test_it_says_that_workers_start_while_the_database_does_not_answer(monkeypatch):
    from launch import commands

    for answer in (b'{"buffer": null}', b"not JSON"):
        monkeypatch.setattr(commands, "ask", lambda *_, answer=answer: (503, answer))
        assert commands.what_happens_now(None) == "starting the workers"
