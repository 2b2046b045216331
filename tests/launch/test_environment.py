"""config.environment: types, defaults, and one sentence for each wrong value."""

import json
import subprocess
import sys

import pytest

from config.environment import PROJECT_ROOT, WrongEnvironment, load_environment


@pytest.fixture
def load(tmp_path):
    return lambda **values: load_environment({"DATA_DIR": str(tmp_path), **values})


def test_it_reads_nothing_as_the_defaults(load, tmp_path):
    environment = load()
    assert (environment.host, environment.port, environment.debug) == ("127.0.0.1", 8000, False)
    assert environment.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert environment.base_model == str(tmp_path / "models" / "base-smollm2-135m-instruct")
    assert environment.has_default_base_model


def test_it_takes_an_empty_value_for_an_unset_one(load):
    assert load(PORT="", TIME_ZONE=" ").port == 8000


def test_it_reads_each_type(load):
    environment = load(PORT="80", DEBUG="Yes", ALLOWED_HOSTS="a.example, b.example", LOG_LEVEL="info")
    assert environment.port == 80
    assert environment.debug is True
    assert environment.allowed_hosts == ("a.example", "b.example")
    assert environment.log_level == "INFO"


def test_the_first_managers_address_is_in_small_letters_as_every_account(load):
    assert load(ADMIN_EMAIL="Admin@Example.org").admin_email == "admin@example.org"


def test_it_takes_a_data_folder_from_the_project_not_from_where_it_was_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = load_environment({"SECRET_KEY": "k" * 40})
    assert environment.data_dir == PROJECT_ROOT / "var"
    assert not (tmp_path / "var").exists()


ORIGIN = "addresses like https://whetstone.example.org with a comma between them"
DATABASE = "an address like postgresql://user:password@host:5432/name"
MAIL = "an address like smtp+tls://user:password@host:587"
ZONE = "the name of a time zone, like Europe/Paris"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "eighty", "PORT is “eighty”: it must be a whole number from 1 to 65535."),
        ("PORT", "70000", "PORT is “70000”: it must be a whole number from 1 to 65535."),
        ("WEB_WORKERS", "0", "WEB_WORKERS is “0”: it must be a whole number from 1 to 64."),
        ("DEBUG", "maybe", "DEBUG is “maybe”: it must be true or false."),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is “loud”: it must be one of DEBUG, INFO, WARNING, ERROR."),
        ("TIME_ZONE", "Mars/Olympus", f"TIME_ZONE is “Mars/Olympus”: it must be {ZONE}."),
        ("TIME_ZONE", "../etc", f"TIME_ZONE is “../etc”: it must be {ZONE}."),
        ("ADMIN_EMAIL", "alice", "ADMIN_EMAIL is “alice”: it must be one e-mail address."),
        ("CSRF_TRUSTED_ORIGINS", "a.example", f"CSRF_TRUSTED_ORIGINS is “a.example”: it must be {ORIGIN}."),
        (
            "HTTPS_ONLY",
            "1",
            "HTTPS_ONLY is true: TRUST_PROXY must be too, since a proxy in front is what speaks HTTPS.",
        ),
        ("DATABASE_URL", "sqlite:///secret", f"DATABASE_URL must be {DATABASE}."),
        ("DATABASE_URL", "postgresql://u:p@h:port/n", f"DATABASE_URL must be {DATABASE}."),
        ("CELERY_BROKER_URL", "amqp://h", "CELERY_BROKER_URL must be an address like redis://host:6379/0."),
        ("EMAIL_URL", "mail.example", f"EMAIL_URL must be {MAIL}."),
        (
            "SECRET_KEY",
            "x",
            "SECRET_KEY must be at least 32 characters, or unset: then one is made and kept in DATA_DIR.",
        ),
    ],
)
def test_it_says_in_one_sentence_what_is_wrong(load, name, value, sentence):
    with pytest.raises(WrongEnvironment) as wrong:
        load(**{name: value})
    assert str(wrong.value) == sentence


def test_it_names_every_wrong_variable_at_once(load):
    with pytest.raises(WrongEnvironment) as wrong:
        load(PORT="x", DEBUG="x")
    assert [line.split()[0] for line in str(wrong.value).splitlines()] == ["PORT", "DEBUG"]


def test_it_refuses_a_data_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WrongEnvironment, match="DATA_DIR is “.*file”: it must be a folder"):
        load_environment({"DATA_DIR": str(tmp_path / "file")})


def test_it_prints_the_sentence_and_no_traceback_when_a_command_starts(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "launch", "run"],
        env={"DATA_DIR": str(tmp_path), "PORT": "x"},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "PORT is “x”: it must be a whole number from 1 to 65535.\n"


def test_it_makes_one_secret_key_and_keeps_it_private(load, tmp_path):
    key = load().secret_key
    assert len(key) >= 50
    assert load().secret_key == key
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_it_reads_a_database_url(load):
    database = load(DATABASE_URL="postgresql://al%40ice:p%2Fw@db.example:6543/name?sslmode=require").database
    assert database == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "name",
        "USER": "al@ice",
        "PASSWORD": "p/w",
        "HOST": "db.example",
        "PORT": "6543",
        "OPTIONS": {"sslmode": "require"},
    }


def test_it_finds_the_private_services_that_run(load, tmp_path):
    addresses = {"database_url": "postgresql://postgres@/whetstone?host=/a/b", "broker_url": "redis+socket:///a/v.sock"}
    (tmp_path / "services.json").write_text(json.dumps(addresses))
    environment = load()
    assert environment.database["HOST"] == "/a/b"
    assert environment.database["PORT"] == ""
    assert environment.broker_url == "redis+socket:///a/v.sock"
    assert environment.valkey_url == "unix:///a/v.sock"


def test_it_says_to_start_first_where_no_private_service_runs(load):
    with pytest.raises(WrongEnvironment, match="DATABASE_URL is not set .* start `make run` first"):
        _ = load().database


def test_it_reads_a_mail_address(load):
    email = load(EMAIL_URL="smtp+tls://me:p%40ss@mail.example").email
    assert (email["EMAIL_HOST"], email["EMAIL_PORT"], email["EMAIL_HOST_PASSWORD"]) == ("mail.example", 587, "p@ss")
    assert email["EMAIL_USE_TLS"] is True
    assert email["EMAIL_USE_SSL"] is False


def test_it_takes_a_folder_or_a_hub_id_as_base_model(load, tmp_path):
    assert load(BASE_MODEL=str(tmp_path)).base_model == str(tmp_path)
    assert load(BASE_MODEL="org/name").base_model == "org/name"
    assert not load(BASE_MODEL="org/name").has_default_base_model


def test_it_answers_to_the_address_it_listens_on(load):
    assert load(HOST="192.0.2.7").allowed_hosts[-1] == "192.0.2.7"
    assert load(HOST="2001:db8::7").allowed_hosts[-1] == "[2001:db8::7]"


def test_it_imports_neither_django_nor_torch():
    code = (
        "import sys, launch.commands; print(sorted({'django', 'torch', 'celery', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
