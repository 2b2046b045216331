"""One private PostgreSQL and one private Valkey for this pytest run, started by the first test that needs them.

Their addresses stand in the environment before Django reads its settings. Everything lies in a temporary folder, so
any number of runs go side by side.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from launch.postgresql import PrivatePostgres
from launch.translations import compile_translations
from launch.valkey import PrivateValkey

DATA_DIR = Path(tempfile.mkdtemp(prefix="whetstone-tests-"))
POSTGRES = PrivatePostgres(DATA_DIR / "postgres", DATA_DIR / "logs" / "postgres.log", is_durable=False)
VALKEY = PrivateValkey(DATA_DIR / "valkey", DATA_DIR / "logs" / "valkey.log", is_durable=False)

os.environ |= {
    "DATA_DIR": str(DATA_DIR),
    "DATABASE_URL": POSTGRES.url,
    "CELERY_BROKER_URL": VALKEY.url,
    "SECRET_KEY": "a key for the tests, of no worth to anybody",
    "DJANGO_SETTINGS_MODULE": "config.settings",
}


@pytest.fixture(scope="session")
def broker():
    """The Valkey that CELERY_BROKER_URL means, running."""
    yield VALKEY.start()
    VALKEY.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(broker):
    """pytest-django asks for this before it makes the test database."""
    POSTGRES.start()
    yield
    POSTGRES.stop()


@pytest.fixture(autouse=True)
def english():
    """A page asked for in Chinese leaves its thread speaking Chinese; the next test begins in English."""
    if "django" in sys.modules:
        from django.utils import translation

        translation.activate("en")


@pytest.fixture(autouse=True)
def no_attempts_yet():
    """The rate limits count in the process's cache: sign-ins of earlier tests would be attempts of this one's."""
    if "django" in sys.modules:
        from django.core.cache import cache

        cache.clear()


def pytest_configure(config):
    """Load the settings now that the environment stands; pytest-django then sets Django up. `-p no:django`: neither."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated run stops its servers too
    if config.pluginmanager.has_plugin("django"):
        from django.conf import settings

        compile_translations()
        # Also loads the settings. A hash that is slow to guess is slow to make.
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_unconfigure():
    shutil.rmtree(DATA_DIR, ignore_errors=True)
