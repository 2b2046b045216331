"""Every environment variable Whetstone reads: its type, its default and what it means, checked before anything starts.

    from config.environment import load_environment
    load_environment().port

One variable is one field of Environment, its name in lower case. A wrong value stops the program with a sentence that
names it (WrongEnvironment is a SystemExit). `docs/operations.md` has the same table; a test holds the two together.
Neither Django nor torch is imported, so `launch` can read it before anything else exists.
"""

import json
import os
import secrets
import socket
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEFAULT_BASE_MODEL = "SmolLM2-135M-Instruct"
SECRETS = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "EMAIL_URL",
    "SECRET_KEY",
    "ADMIN_PASSWORD",
)  # never repeated in a message
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class WrongEnvironment(SystemExit):
    """Says which variable is wrong and what it must be. Uncaught, that sentence is all that is printed."""


def text(value: str) -> str:
    return value


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isascii() or not value.isdigit() or not lowest <= int(value) <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def yes_or_no(value: str) -> bool:
    answer = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in answer:
        raise ValueError("true or false")
    return answer[value.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.upper() not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return value.upper()

    return parse


def folder(value: str) -> Path:
    path = (PROJECT_ROOT / Path(value).expanduser()).resolve()
    if path.exists() and not path.is_dir():
        raise ValueError("a folder, and there is a file of that name")
    return path


def words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def origins(value: str) -> tuple[str, ...]:
    for origin in words(value):
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
            raise ValueError("addresses like https://whetstone.example.org with a comma between them")
    return words(value)


def email_address(value: str) -> str:
    name, at, domain = value.partition("@")
    if not (name and at and domain) or "@" in domain or any(character.isspace() for character in value):
        raise ValueError("one e-mail address")
    return value


def login(value: str) -> str:
    """The address of an account, which is kept in small letters."""
    return email_address(value).lower()


def secret_key(value: str) -> str:
    if value and len(value) < 32:
        raise ValueError("at least 32 characters, or unset: then one is made and kept in DATA_DIR")
    return value


def time_zone(value: str) -> str:
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("the name of a time zone, like Europe/Paris") from None
    return value


def address(*schemes: str, example: str) -> Callable[[str], str]:
    """Parse a URL with one of `schemes`; an empty value stays empty."""

    def parse(value: str) -> str:
        if not value:
            return value
        wrong = ValueError(f"an address like {example}")
        try:
            scheme, port = urlsplit(value).scheme, urlsplit(value).port
        except ValueError:
            raise wrong from None
        if scheme not in schemes or port == 0:
            raise wrong
        return value

    return parse


def variable(default: str, parse: Callable[[str], object], meaning: str, shown: str | None = None):
    """A field: its default as it would be typed, its parser, its row in the table (`shown` in place of the default)."""
    return field(metadata={"default": default, "parse": parse, "meaning": meaning, "shown": shown or f"`{default}`"})


@dataclass(frozen=True)
class Environment:
    """What the environment says, typed and checked."""

    data_dir: Path = variable("var", folder, "Everything that must outlive a restart: database, queue, models, runs.")
    host: str = variable("127.0.0.1", text, "Address the web server listens on; `0.0.0.0` for every network.")
    port: int = variable("8000", whole_number(1, 65535), "Port the web server listens on.")
    database_url: str = variable(
        "",
        address("postgres", "postgresql", example="postgresql://user:password@host:5432/name"),
        "PostgreSQL, `postgresql://user:password@host:5432/name`.",
        "a private PostgreSQL in `DATA_DIR`",
    )
    celery_broker_url: str = variable(
        "",
        address("redis", "rediss", "redis+socket", example="redis://host:6379/0"),
        "Valkey or Redis, `redis://host:6379/0`.",
        "a private Valkey in `DATA_DIR`",
    )
    base_model: str = variable(
        DEFAULT_BASE_MODEL,
        text,
        "The language model everything starts from: a Hugging Face id or a folder. The default comes with the "
        "installation and needs no hub.",
    )
    admin_email: str = variable("manager@localhost", login, "Login of the first manager.")
    admin_password: str = variable(
        "", text, "Password of the first manager, read when the account is made.", "generated, printed once"
    )
    secret_key: str = variable(
        "", secret_key, "Signs sessions and links; the same on every machine.", "generated, kept in `DATA_DIR`"
    )
    debug: bool = variable("false", yes_or_no, "Django's debug pages. Never on a network.")
    log_level: str = variable("WARNING", one_of(*LOG_LEVELS), "How much every process says.")
    allowed_hosts: tuple[str, ...] = variable(
        "", words, "Names the site answers to, with commas between.", "this machine's names"
    )
    csrf_trusted_origins: tuple[str, ...] = variable(
        "", origins, "Addresses people reach the site by behind a proxy, `https://…`, with commas between.", "none"
    )
    trust_proxy: bool = variable(
        "false", yes_or_no, "Believe `X-Forwarded-Proto` and `X-Forwarded-For`; only behind your own proxy."
    )
    https_only: bool = variable("false", yes_or_no, "Cookies over HTTPS only, HSTS, and a redirect from HTTP.")
    web_workers: int = variable("2", whole_number(1, 64), "Processes of the web server.")
    web_threads: int = variable("4", whole_number(1, 64), "Threads in each of them.")
    time_zone: str = variable("UTC", time_zone, "Time zone of dates on the pages.")
    email_url: str = variable(
        "console:",
        address("console", "smtp", "smtp+tls", "smtps", example="smtp+tls://user:password@host:587"),
        "How mail leaves: `smtp://`, `smtp+tls://` or `smtps://user:password@host:port`; `console:` prints it.",
    )
    email_from: str = variable("whetstone@localhost", email_address, "Sender of that mail.")

    @property
    def services_file(self) -> Path:
        """Where `launch` writes the addresses of the private PostgreSQL and Valkey while they are up."""
        return self.data_dir / "services.json"

    @property
    def default_base_model_folder(self) -> Path:
        return self.data_dir / "models" / f"base-{DEFAULT_BASE_MODEL.lower()}"

    @property
    def has_default_base_model(self) -> bool:
        return self.base_model == str(self.default_base_model_folder)

    @property
    def broker_url(self) -> str:
        """Celery's broker: the given one, or the private Valkey that runs now."""
        return self.celery_broker_url or self._running_service("broker_url", "CELERY_BROKER_URL")

    @property
    def valkey_url(self) -> str:
        """The broker's address as the client library `redis` spells it."""
        return self.broker_url.replace("redis+socket://", "unix://", 1)

    @property
    def database(self) -> dict:
        """Django's DATABASES["default"]: the given database, or the private PostgreSQL that runs now."""
        parts = urlsplit(self.database_url or self._running_service("database_url", "DATABASE_URL"))
        options = dict(parse_qsl(parts.query))
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")) or "postgres",
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": options.pop("host", None) or unquote(parts.hostname or ""),
            "PORT": str(parts.port or options.pop("port", "")),
            "OPTIONS": options,
        }

    @property
    def email(self) -> dict:
        """Django's EMAIL_* settings."""
        parts = urlsplit(self.email_url)
        if parts.scheme == "console":
            return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": parts.hostname or "localhost",
            "EMAIL_PORT": parts.port or {"smtp": 25, "smtp+tls": 587, "smtps": 465}[parts.scheme],
            "EMAIL_HOST_USER": unquote(parts.username or ""),
            "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
            "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
            "EMAIL_USE_SSL": parts.scheme == "smtps",
        }

    def _running_service(self, key: str, name: str) -> str:
        try:
            return json.loads(self.services_file.read_text())[key]
        except (OSError, ValueError, KeyError):
            raise WrongEnvironment(
                f"{name} is not set and no private one is running: start `make run` first, or set {name}."
            ) from None


def load_environment(values: Mapping[str, str] | None = None) -> Environment:
    """Read `values` (os.environ if none); an empty value is unset. Raises WrongEnvironment, a line a variable."""
    values = os.environ if values is None else values
    read, wrong = {}, []
    for each in fields(Environment):
        name = each.name.upper()
        value = values.get(name, "").strip() or each.metadata["default"]
        try:
            read[each.name] = each.metadata["parse"](value)
        except ValueError as error:
            said = "" if name in SECRETS else f" is “{value}”: it"
            wrong.append(f"{name}{said} must be {error}.")
    if not wrong and read["https_only"] and not read["trust_proxy"]:
        wrong.append("HTTPS_ONLY is true: TRUST_PROXY must be too, since a proxy in front is what speaks HTTPS.")
    if wrong:
        raise WrongEnvironment("\n".join(wrong))
    read["allowed_hosts"] = read["allowed_hosts"] or names_of_this_machine(read["host"])
    read["secret_key"] = read["secret_key"] or kept_secret_key(read["data_dir"])
    environment = Environment(**read)
    if environment.base_model == DEFAULT_BASE_MODEL:
        read["base_model"] = str(environment.default_base_model_folder)
    elif Path(environment.base_model).expanduser().is_dir():
        read["base_model"] = str(Path(environment.base_model).expanduser().resolve())
    return Environment(**read)


def names_of_this_machine(host: str) -> tuple[str, ...]:
    """What the site answers to when ALLOWED_HOSTS does not say: loopback, and the address or name it listens on."""
    loopback = ("localhost", "127.0.0.1", "[::1]")
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    return loopback if name in loopback else (*loopback, name)


def kept_secret_key(data_dir: Path) -> str:
    """The secret key of this data folder, made at first use. Linked into place, so that two processes agree on one."""
    path = data_dir / "secret_key"
    if not path.exists():
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            temporary = data_dir / f".secret_key.{os.getpid()}"
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_urlsafe(48))
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                temporary.unlink()
        except OSError as error:
            raise WrongEnvironment(f"DATA_DIR is “{data_dir}”: it must be writable ({error.strerror}).") from None
    return path.read_text()
