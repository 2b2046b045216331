"""Renewing leases over the API: whoever is at work keeps the comparison, nobody keeps it for ever."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from annotate.models import Assignment, Comparison, PromptPool
from annotate.services.assignments import release_expired_leases
from tests.api.callers import Caller
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt

pytestmark = pytest.mark.django_db

RENEWAL = "/api/v1/assignments/renewal/"
LEASE = timedelta(minutes=30)


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def alice(cast):
    return Caller(cast["alice"])


@pytest.fixture
def pool():
    pool = make_pool(make_policy(), lease_minutes=30)
    make_comparison(make_prompt(pool, "Say hello"), ["one", "two"])
    return pool


@pytest.fixture
def lease(alice, pool):
    return alice.post("/api/v1/assignments/").json()


def age(lease, minutes: int, expires_in: int) -> None:
    """The lease as it stands `minutes` after it was given, with `expires_in` minutes left."""
    now = timezone.now()
    Assignment.objects.filter(pk=lease["id"]).update(
        leased_at=now - timedelta(minutes=minutes), expires_at=now + timedelta(minutes=expires_in)
    )


def renew(caller, *ids: int) -> dict:
    response = caller.post(RENEWAL, {"holding": list(ids)})
    assert response.status_code == 200, response.content
    return response.json()["renewed"]


def minutes_left(lease) -> float:
    return (Assignment.objects.get(pk=lease["id"]).expires_at - timezone.now()).total_seconds() / 60


def test_it_makes_a_lease_as_long_again(alice, lease):
    age(lease, 28, 2)
    renewed = renew(alice, lease["id"])
    assert minutes_left(lease) == pytest.approx(30, abs=0.5)
    assert parse_datetime(renewed[str(lease["id"])]) == Assignment.objects.get().expires_at


def test_it_renews_a_lease_past_its_time_that_nobody_has_reclaimed(alice, lease):
    age(lease, 31, -1)
    renew(alice, lease["id"])
    assert release_expired_leases() == 0


def test_who_comes_back_in_time_has_the_lease_again(alice, lease):
    age(lease, 70, -40)
    release_expired_leases()
    renewed = renew(alice, lease["id"])
    assert minutes_left(lease) == pytest.approx(30, abs=0.5)
    assert parse_datetime(renewed[str(lease["id"])]) == Assignment.objects.get().expires_at
    assert (Assignment.objects.get().status, Assignment.objects.get().finished_at) == ("leased", None)
    assert Comparison.objects.get().taken == 1


def test_it_says_by_leaving_out_that_a_lease_is_lost(cast, alice, lease):
    age(lease, 31, -1)
    release_expired_leases()
    Caller(cast["bob"]).post("/api/v1/assignments/")
    assert renew(alice, lease["id"]) == {}
    assert Assignment.objects.get(pk=lease["id"]).status == "expired"
    assert Comparison.objects.get().taken == 1


def test_one_that_ran_out_after_eight_terms_begins_anew(alice, lease):
    """Its place was open in between, to whoever came: over night, nobody did."""
    age(lease, 960, -720)
    release_expired_leases()
    renew(alice, lease["id"])
    assert minutes_left(lease) == pytest.approx(30, abs=0.5)
    assert Assignment.objects.get().leased_at > timezone.now() - timedelta(minutes=1)


@pytest.mark.parametrize("changed", [{"status": "paused"}, {"members_only": True}])
def test_one_that_ran_out_is_lost_where_the_pool_is_no_work_of_theirs_any_more(alice, lease, changed):
    age(lease, 31, -1)
    release_expired_leases()
    PromptPool.objects.update(**changed)
    assert renew(alice, lease["id"]) == {}
    assert Comparison.objects.get().taken == 0


def test_it_renews_nobody_elses_lease(cast, alice, lease):
    age(lease, 28, 2)
    assert renew(Caller(cast["bob"]), lease["id"]) == {}
    assert minutes_left(lease) == pytest.approx(2, abs=0.5)


def test_it_renews_no_answered_one(alice, lease):
    ranks = {str(each["id"]): 1 for each in lease["completions"]}
    alice.post(
        f"/api/v1/assignments/{lease['id']}/ranking/",
        {"token": lease["token"], "ranks": ranks},
        **{"Idempotency-Key": "one"},
    )
    assert renew(alice, lease["id"]) == {}


def test_eight_terms_are_the_longest(alice, lease):
    """30 minutes times 8 are 240: what was lent 230 minutes ago has 10 left, however often one asks."""
    age(lease, 230, 1)
    renew(alice, lease["id"])
    assert minutes_left(lease) == pytest.approx(10, abs=0.5)


def test_it_never_shortens_a_lease(alice, lease):
    age(lease, 300, 5)
    renew(alice, lease["id"])
    assert minutes_left(lease) == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("body", [{}, {"holding": ["x"]}, {"holding": [0]}, {"holding": 7}, {"holding": [], "for": 9}])
def test_it_refuses_what_is_no_list_of_assignments(alice, lease, body):
    assert alice.post(RENEWAL, body).status_code == 400


def test_it_renews_in_one_statement(alice, lease, django_assert_max_num_queries):
    with django_assert_max_num_queries(3):  # whose token it is, what the person may, and the one
        renew(alice, lease["id"])
