"""Who may see the pages of managers and researchers. Bob annotates, Olaf has no role, a stranger is signed out."""

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from annotate.roles import MAY_MANAGE, MAY_RESEARCH
from tests.worlds import make_comparison, make_prompt
from trainer.models import TrainingRun

MANAGERS = [
    "pools",
    "pool_new",
    "pool",
    "pool_edit",
    "pool_guidelines",
    "pool_members",
    "pool_prompts",
    "pool_import",
    "pool_gold",
    "people",
    "person",
    "audit",
    "policy_new",
    "policy_edit",
]
RESEARCHERS = ["runs", "run", "checkpoints", "checkpoint", "preferences", "preferences_download", "snapshots"]
WRITES = [
    "pool_pause",
    "pool_resume",
    "person_deactivate",
    "person_reactivate",
    "person_withdraw",
    "person_role",
    "run_start",
    "run_cancel",
    "run_resume",
    "checkpoint_roll_back",
]

TRAINER = ("checkpoints", "policies", "runs")
READ_BY_RESEARCHERS = ("run", "checkpoint", "preferences", "snapshot")


@pytest.fixture
def address(cast, pool):
    """The address of a page by its name."""
    make_comparison(make_prompt(pool, "Write."), ["a", "b"])
    run = TrainingRun.objects.create(policy=pool.policy)
    ids = {
        "pool": pool.pk,
        "policy": pool.policy.pk,
        "person": cast["alice"].pk,
        "run": run.pk,
        "checkpoint": pool.policy.serving.pk,
    }

    def of(name: str) -> str:
        if name == "run_start":
            return reverse(name, args=[pool.policy.pk])
        noun = name.split("_")[0]
        has_no_argument = name in (
            "pools",
            "pool_new",
            "policy_new",
            "people",
            "audit",
            "runs",
            "checkpoints",
            *RESEARCHERS[4:],
        )
        return reverse(name, args=[] if has_no_argument else [ids[noun]])

    return of


@pytest.mark.parametrize("name", MANAGERS + RESEARCHERS)
def test_it_shows_every_page_to_a_manager(address, maria, name):
    assert maria.get(address(name)).status_code == 200


@pytest.mark.parametrize("name", RESEARCHERS)
def test_it_shows_runs_and_checkpoints_to_a_researcher(address, ravi, name):
    assert ravi.get(address(name)).status_code == 200


@pytest.mark.parametrize("name", MANAGERS)
def test_it_keeps_managers_pages_from_a_researcher(address, ravi, name):
    assert ravi.get(address(name)).status_code == 403


@pytest.mark.parametrize("who", ["bob", "olaf"])
@pytest.mark.parametrize("name", MANAGERS + RESEARCHERS)
def test_it_keeps_them_from_everybody_else(address, cast, signed_in, who, name):
    assert signed_in(cast[who]).get(address(name)).status_code == 403


@pytest.mark.parametrize("name", MANAGERS + RESEARCHERS)
def test_it_sends_a_stranger_to_sign_in_and_back(address, client, name):
    response = client.get(address(name))
    assert response.status_code == 302
    assert response.url == f"{reverse('account_login')}?next={address(name)}"


@pytest.mark.parametrize("who", ["bob", "olaf", "ravi"])
@pytest.mark.parametrize("name", WRITES)
def test_it_lets_nobody_but_managers_write(address, cast, signed_in, who, name):
    assert signed_in(cast[who]).post(address(name)).status_code == 403


@pytest.mark.parametrize("name", WRITES)
def test_it_changes_nothing_by_following_a_link(address, maria, name):
    assert maria.get(address(name)).status_code == 405


def test_it_refuses_a_write_from_another_site(address, cast):
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast["maria"])
    assert client.post(address("pool_pause"), {"reason": "a forged form"}).status_code == 403


def test_it_moves_the_whole_page_to_sign_in_when_a_fragment_was_asked_for(address, client):
    response = client.get(address("run"), headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/runs/1/"})
    assert response.headers["HX-Redirect"] == f"{reverse('account_login')}?next=/runs/1/"


@pytest.mark.parametrize("name", ["guidelines", "rank_feedback", "correction"])
def test_a_fragment_for_the_ranking_pages_script_is_no_page_where_one_is_signed_out(client, cast, name):
    """It takes any answer of 200 for the fragment; htmx alone would go where HX-Redirect says."""
    headers = {"HX-Request": "true", "X-Whetstone-Person": str(cast["alice"].pk)}
    response = client.get(reverse(name, args=[1]), headers=headers)
    assert (response.status_code, "HX-Redirect" in response.headers) == (302, False)


def test_it_knows_who_may_see_each_of_these_pages():
    topics = ["audit", "gold", "members", "people", "pools", "preferences", "prompts", "snapshots"]
    modules = {f"annotate.views.{topic}" for topic in topics}
    patterns = get_resolver("annotate.urls").url_patterns + get_resolver("trainer.urls").url_patterns
    views = [pattern for pattern in patterns if getattr(pattern, "callback", None)]
    ours = [each for each in views if each.callback.__module__ in modules | {f"trainer.views.{t}" for t in TRAINER}]
    assert len(ours) > 40
    assert {each.name: each.callback.allowed for each in ours} == {
        each.name: MAY_RESEARCH if each.name.startswith(READ_BY_RESEARCHERS) and each.name not in WRITES else MAY_MANAGE
        for each in ours
    }
