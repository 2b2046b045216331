"""The cast of `tests.worlds` at the pages: Maria manages, Ravi researches, Alice and Bob annotate, Olaf may nothing.

Models are imported inside the fixtures: this file is read before Django is set up.
"""

import pytest


@pytest.fixture
def cast(db):
    from tests.worlds import make_cast

    return make_cast()


@pytest.fixture
def signed_in():
    """A client in which a person is signed in."""
    from django.test import Client

    def client_of(person):
        client = Client()
        client.force_login(person)
        return client

    return client_of


@pytest.fixture
def maria(cast, signed_in):
    return signed_in(cast["maria"])


@pytest.fixture
def ravi(cast, signed_in):
    return signed_in(cast["ravi"])


@pytest.fixture
def policy(cast):
    from tests.worlds import make_policy

    return make_policy()


@pytest.fixture
def pool(policy):
    from tests.worlds import make_pool

    return make_pool(policy, "Letters")
