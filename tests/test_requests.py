"""What every request goes through: its connection to the database, its session, the roles of whoever is signed in."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.roles import roles_of
from tests.worlds import make_person

RANK = "/rank/"


@pytest.fixture
def alice(client, db):
    """A browser in which Alice is signed in."""
    client.force_login(make_person("alice", "annotator"))
    return client


def sign_in_page(response) -> bool:
    return response.status_code == 302 and response.url.startswith("/account/login/")


def person_of(browser):
    return browser.get("/account/password/change/").wsgi_request.user


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_the_server_closed_is_made_anew():
    connection.ensure_connection()
    lost = connection.connection
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [lost.get_backend_pid()])
    finally:
        other.close()
    assert not connection.is_usable()
    connection.close_if_unusable_or_obsolete()  # as Django does between two requests
    connection.health_check_enabled = True
    connection.close_if_health_check_failed()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    assert connection.connection is not lost


@pytest.mark.django_db(transaction=True)
def test_a_closed_or_missing_connection_is_not_usable():
    connection.ensure_connection()
    assert connection.is_usable()
    connection.connection.close()
    assert not connection.is_usable()
    connections["default"].close()
    assert not connection.is_usable()


def test_a_session_that_is_deleted_is_over_at_once(alice):
    assert alice.get(RANK).status_code == 200
    Session.objects.all().delete()
    assert sign_in_page(alice.get(RANK))


def test_a_session_past_its_time_is_over(alice):
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert sign_in_page(alice.get(RANK))


def test_a_session_that_somebody_else_signed_is_none(alice):
    kept = Session.objects.get()
    Session.objects.update(session_data=kept.session_data[:-1] + ("a" if kept.session_data[-1] != "a" else "b"))
    assert sign_in_page(alice.get(RANK))


def test_a_new_password_ends_the_sessions_of_the_old_one(alice):
    person = person_of(alice)
    person.set_password("a password nobody has guessed")
    person.save()
    assert sign_in_page(alice.get(RANK))


def test_a_closed_account_is_signed_out_with_its_next_request(alice):
    person = person_of(alice)
    person.is_active = False
    person.save()
    assert sign_in_page(alice.get(RANK))


def test_a_role_that_is_taken_away_is_gone_with_the_next_request(alice):
    person = person_of(alice)
    assert roles_of(person) == {"annotator"}
    person.groups.clear()
    assert alice.get(RANK).status_code == 403


def test_the_roles_come_with_the_person(alice):
    person_of(alice)
    with CaptureQueriesContext(connection) as statements:
        roles_of(person_of(alice))
    assert [each["sql"] for each in statements if "auth_group" in each["sql"]] == [
        each["sql"] for each in statements if "annotate_user person" in each["sql"]
    ]


def test_an_unknown_group_is_no_role(alice):
    from django.contrib.auth.models import Group

    person = person_of(alice)
    person.groups.add(Group.objects.create(name="superuser"))
    assert roles_of(person_of(alice)) == {"annotator"}


def next_comparison(browser, **headers):
    return browser.post("/rank/next/", headers=headers)


def test_it_refuses_what_a_page_asks_for_somebody_else(alice):
    bob = make_person("bob", "annotator")
    refused = next_comparison(alice, **{"X-Whetstone-Person": str(bob.pk)})
    assert refused.status_code == 403
    assert refused.json() == {"code": "another_person", "detail": "Somebody else is signed in in this browser now."}


def test_it_answers_the_page_of_whoever_is_signed_in(alice):
    assert next_comparison(alice, **{"X-Whetstone-Person": str(person_of(alice).pk)}).status_code == 200
    assert next_comparison(alice).status_code == 200


def test_whose_page_it_is_makes_nobody_signed_in(client, db):
    bob = make_person("bob", "annotator")
    assert sign_in_page(next_comparison(client, **{"X-Whetstone-Person": str(bob.pk)}))
