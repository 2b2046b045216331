"""Who may do what, at every address there is. An address that is not in this table fails the test."""

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import URLPattern, get_resolver, reverse
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from tests.worlds import make_cast

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]

EVERYBODY = {"nobody", "olaf", "alice", "maria", "ravi", "sue"}
WITH_ACCOUNT = EVERYBODY - {"nobody"}
WITH_ROLE = {"alice", "maria", "ravi", "sue"}
ANNOTATE = {"alice", "maria", "sue"}
MANAGE = {"maria", "sue"}
RESEARCH = {"ravi", "maria", "sue"}
READING = ("GET",)
WRITING = ("POST", "PUT", "PATCH", "DELETE")

# Name of the address: who may; or who may read, and who may write.
MATRIX = {
    "home": WITH_ROLE,
    "language": EVERYBODY,
    "set_language": EVERYBODY,
    "invitation": EVERYBODY,
    "healthz": EVERYBODY,
    "readyz": EVERYBODY,
    "api_nothing": EVERYBODY,
    # annotators
    **dict.fromkeys(("rank", "rank_next", "rank_feedback", "keys", "guidelines", "work", "correction"), ANNOTATE),
    "changes": ANNOTATE,
    "leave": WITH_ROLE,
    # managers
    **dict.fromkeys(("pools", "pool_new", "pool", "pool_edit", "pool_pause", "pool_resume", "pool_guidelines"), MANAGE),
    **dict.fromkeys(("pool_members", "pool_member_remove", "pool_member_let_through"), MANAGE),
    **dict.fromkeys(("pool_prompts", "pool_prompt_retire"), MANAGE),
    **dict.fromkeys(("pool_prompt_restore", "pool_import", "pool_gold", "pool_gold_new"), MANAGE),
    **dict.fromkeys(("pool_gold_withdraw", "people", "person", "person_role", "person_deactivate"), MANAGE),
    **dict.fromkeys(("person_reactivate", "person_withdraw", "invitation_revoke", "audit"), MANAGE),
    **dict.fromkeys(("policy_new", "policy_edit", "run_start", "run_cancel", "run_resume"), MANAGE),
    "checkpoint_roll_back": MANAGE,
    # researchers
    **dict.fromkeys(("preferences", "preferences_download", "snapshots", "snapshot", "snapshot_card"), RESEARCH),
    **dict.fromkeys(("runs", "run", "run_chart", "run_plot", "checkpoints", "checkpoint"), RESEARCH),
    # programs
    **dict.fromkeys(("api", "api_schema"), WITH_ROLE),
    **dict.fromkeys(("api_assignments", "api_assignment_ranking", "api_assignment_revision"), ANNOTATE),
    **dict.fromkeys(("api_assignment_skip", "api_assignment_renewal"), ANNOTATE),
    **dict.fromkeys(("api_pool_prompt", "api_pool_members", "api_pool_member", "api_pool_gold"), MANAGE),
    "api_pool_member_let_through": MANAGE,
    **dict.fromkeys(("api_pool_gold_comparison", "api_people", "api_person", "api_person_withdraw"), MANAGE),
    **dict.fromkeys(("api_invitations", "api_invitation", "api_audit", "api_policy"), MANAGE),
    "api_pools": (WITH_ROLE, MANAGE),
    "api_pool": (WITH_ROLE, MANAGE),
    "api_pool_prompts": (RESEARCH, MANAGE),
    "api_policies": (RESEARCH, MANAGE),
    **dict.fromkeys(("api_preferences", "api_snapshots", "api_snapshot", "api_snapshot_card"), RESEARCH),
    **dict.fromkeys(("api_policy_checkpoints", "api_runs", "api_run", "api_run_metrics"), RESEARCH),
    **dict.fromkeys(("api_policy_runs", "api_checkpoint_roll_back", "api_run_cancel", "api_run_resume"), MANAGE),
    **dict.fromkeys(("api_checkpoint_lineage", "api_ranking_runs"), RESEARCH),
    **dict.fromkeys(("openai_models", "openai_chat_completions", "metrics"), RESEARCH),
    # allauth
    **dict.fromkeys(("account_login", "account_logout", "account_inactive", "account_signup"), EVERYBODY),
    **dict.fromkeys(("account_reset_password", "account_reset_password_done"), EVERYBODY),
    **dict.fromkeys(("account_reset_password_from_key", "account_reset_password_from_key_done"), EVERYBODY),
    **dict.fromkeys(("account_change_password", "account_set_password"), WITH_ACCOUNT),
}
NOT_THERE = 987654321  # permission comes first: whoever may learns that it is not there


def every_address() -> dict[str, URLPattern]:
    return {pattern.name: pattern for pattern in patterns_of(get_resolver().url_patterns)}


def patterns_of(patterns) -> Iterator[URLPattern]:
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield pattern
        else:
            yield from patterns_of(pattern.url_patterns)


def path_to(name: str) -> str:
    """The address with something that does not exist in each of its blanks."""
    blanks = every_address()[name].pattern.regex.groupindex
    text = {"name": "loss", "token": "no-such-token", "rest": "v1/nothing", "key": "a-key", "uidb36": "a"}
    return reverse(name, kwargs={blank: text.get(blank, NOT_THERE) for blank in blanks})


def may(name: str, method: str) -> set[str]:
    entry = MATRIX[name]
    if isinstance(entry, tuple):
        return entry[0] if method in READING else entry[1]
    return entry


def is_refused(response) -> bool:
    if response.status_code == 302:
        return response["Location"].startswith(resolve_url(settings.LOGIN_URL))
    return response.status_code in (401, 403)


@pytest.fixture
def clients(monkeypatch):
    """A signed-in browser for each of the cast, and one for nobody; nothing they ask for reaches a worker."""
    monkeypatch.setattr("trainer.api.openai.TIMEOUT_SECONDS", 0.1)
    found = {"nobody": APIClient()}
    for name, person in make_cast().items():
        if name == "bob":
            continue  # a second Alice
        found[name] = APIClient()
        found[name].force_login(person)
    return found


def test_every_address_is_in_the_table():
    assert set(every_address()) == set(MATRIX)


def test_every_address_has_a_name_of_its_own():
    names = [pattern.name for pattern in patterns_of(get_resolver().url_patterns)]
    assert all(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", MATRIX)
def test_who_may(clients, name):
    path = path_to(name)
    for method in READING + WRITING:
        for person, client in clients.items():
            response = client.generic(method, path, "{}", content_type="application/json")
            who = f"{person} {method} {path}: {response.status_code}"
            assert response.status_code < 500 or response.status_code == 503, who
            if person in may(name, method):
                assert not is_refused(response), who
            else:
                assert is_refused(response) or response.status_code == 405, who
        if name == "account_logout":
            return  # whoever signed out is nobody from here on


@pytest.mark.parametrize("name", [name for name in MATRIX if name.startswith("api_") or name == "metrics"])
def test_a_token_may_what_its_owner_may_until_the_account_is_closed(name):
    if name == "api_nothing":
        return
    cast = make_cast()
    for person in ("olaf", "sue"):
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {Token.objects.create(user=cast[person])}")
        assert is_refused(client.get(path_to(name))) == (person == "olaf")
    cast["sue"].is_active = False
    cast["sue"].save()
    assert client.get(path_to(name)).status_code == 401
