"""Tiny bases for every test of the trainer; `tests.tiny_models` makes them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401 (the hook names it)
from tests.tiny_models import make_bert, make_gpt2, make_llama

install_import_hook("trainer.rlhf", "tests.shapes.check")  # from here on the shapes in the signatures are checked


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_ctrl_c():
    """A stage that runs in the test's own process keeps the signal; Ctrl-C is to end the tests."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory) -> Path:
    return make_gpt2(tmp_path_factory.mktemp("tiny-gpt2"))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    return make_bert(tmp_path_factory.mktemp("tiny-bert"))
