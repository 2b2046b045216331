"""What managers do on pages, done by a program: people, invitations, members, gold, prompts, policies."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from annotate.models import AuditEvent, Comparison, Invitation, Policy, PoolMember
from annotate.services.snapshots import freeze_preferences
from tests.api.callers import Caller
from tests.worlds import make_cast, make_comparison, make_person, make_policy, make_pool, make_prompt, make_ranking

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def maria(cast):
    return Caller(cast["maria"])


@pytest.fixture
def policy():
    return make_policy()


@pytest.fixture
def pool(policy):
    return make_pool(policy)


def test_listing_more_people_takes_no_more_statements(maria, django_assert_max_num_queries):
    with CaptureQueriesContext(connection) as few:
        maria.get("/api/v1/people/")
    for number in range(20):
        make_person(f"person-{number}", "annotator")
    with django_assert_max_num_queries(len(few)):
        assert len(maria.get("/api/v1/people/").json()["results"]) == 26


def test_people_are_listed_with_their_roles(maria, cast):
    type(cast["bob"]).objects.filter(pk=cast["bob"].pk).update(is_active=False)
    people = {person["email"]: person["roles"] for person in maria.get("/api/v1/people/").json()["results"]}
    assert people["alice@example.org"] == ["annotator"]
    assert people["bob@example.org"] == ["annotator"]  # whose account is closed
    assert people["olaf@example.org"] == []
    assert people["sue@example.org"] == ["annotator", "manager", "researcher"]


def test_a_role_is_changed_and_an_account_closed(maria, cast):
    path = f"/api/v1/people/{cast['alice'].pk}/"
    assert maria.patch(path, {"role": "researcher"}).json()["roles"] == ["researcher"]
    assert maria.patch(path, {"is_active": False}).json()["is_active"] is False
    assert maria.patch(path, {"is_active": True}).json()["is_active"] is True
    assert maria.patch(path, {"role": "king"}).status_code == 400


def test_the_last_manager_stays(maria, cast):
    response = maria.patch(f"/api/v1/people/{cast['maria'].pk}/", {"role": "annotator"})
    assert (response.status_code, response.json()["code"]) == (422, "last_manager")


def test_withdrawing_somebody_names_the_checkpoints(maria, cast, pool):
    make_ranking(make_comparison(make_prompt(pool, "x"), ["a", "b"]), cast["alice"], [1, 2])
    assert maria.post(f"/api/v1/people/{cast['alice'].pk}/withdraw/").json() == []
    cast["alice"].refresh_from_db()
    assert cast["alice"].withdrawn_at and not cast["alice"].is_active
    response = maria.patch(f"/api/v1/people/{cast['alice'].pk}/", {"is_active": True})
    assert (response.status_code, response.json()["code"]) == (422, "withdrawn")


def test_an_invitation_is_a_link_that_can_be_ended(maria):
    body = maria.post("/api/v1/invitations/", {"email": "new@example.org", "role": "annotator"}).json()
    assert resolve("/" + body["link"].split("/", 3)[3]).kwargs == {"token": Invitation.objects.get().token}
    assert maria.get("/api/v1/invitations/").json()["count"] == 1
    assert maria.client.delete(f"/api/v1/invitations/{body['id']}/").status_code == 204
    assert maria.get("/api/v1/invitations/").json()["count"] == 0
    assert maria.client.delete(f"/api/v1/invitations/{body['id']}/").status_code == 422
    assert maria.get("/api/v1/audit/").json()["results"][0]["action"] == "revoke.invitation"


@pytest.mark.parametrize("body", [{"email": "nobody", "role": "annotator"}, {"email": "a@b.org", "role": "king"}, {}])
def test_a_wrong_invitation_is_refused(maria, body):
    assert maria.post("/api/v1/invitations/", body).status_code == 400


def test_members_come_and_go(maria, cast, pool):
    path = f"/api/v1/pools/{pool.pk}/members/"
    member = maria.post(path, {"person": cast["alice"].pk}).json()
    assert maria.get(path).json()["results"] == [member]
    assert maria.post(path, {"person": cast["olaf"].pk}).status_code == 422
    assert maria.client.delete(f"{path}{member['id']}/").status_code == 204
    assert not PoolMember.objects.exists()


def test_somebody_is_let_through_without_the_training(maria, cast, pool):
    member = PoolMember.objects.create(pool=pool, user=cast["alice"])
    path = f"/api/v1/pools/{pool.pk}/members/{member.pk}/let-through/"
    first = maria.post(path).json()
    assert first["qualified_at"]
    assert maria.post(path).json() == first
    assert AuditEvent.objects.filter(action="let-through.member").count() == 1
    assert maria.post(f"/api/v1/pools/999/members/{member.pk}/let-through/").status_code == 404


def test_gold_is_made_from_a_comparison(maria, pool):
    comparison = make_comparison(make_prompt(pool, "x"), ["a", "b"])
    a, b = comparison.completions.values_list("id", flat=True)
    path = f"/api/v1/pools/{pool.pk}/gold/"
    body = {"comparison": comparison.pk, "kind": "training", "ranks": {str(a): 2, str(b): 1}, "explanation": "b."}
    made = maria.post(path, body).json()
    gold = Comparison.objects.get(pk=made["id"])
    assert (gold.kind, sorted(gold.gold_ranks.values())) == ("training", [1, 2])
    assert maria.post(path, body | {"ranks": {str(a): 1}}).status_code == 422
    assert maria.post(path, body | {"comparison": 999}).status_code == 404
    assert maria.client.delete(f"{path}{comparison.pk}/").status_code == 404  # a fresh one is no gold
    assert maria.client.delete(f"{path}{gold.pk}/").status_code == 204


def test_a_prompt_is_retired_and_taken_back(maria, pool):
    prompt = make_prompt(pool, "x")
    path = f"/api/v1/pools/{pool.pk}/prompts/{prompt.pk}/"
    assert maria.patch(path, {"retired": True}).json()["retired_at"]
    assert maria.patch(path, {"retired": False}).json()["retired_at"] is None
    assert maria.patch(path, {"messages": []}).status_code == 400
    assert maria.patch(f"/api/v1/pools/999/prompts/{prompt.pk}/", {"retired": True}).status_code == 404


def test_a_policy_is_made_and_changed(maria):
    body = {"name": "second", "base_model": "some/model", "gate": {"max_kl": 5}}
    made = maria.post("/api/v1/policies/", body).json()
    policy = Policy.objects.get(name="second")
    assert (made["id"], made["gate"], policy.serving.number) == (policy.pk, {"max_kl": 5.0}, 0)
    changed = maria.patch(f"/api/v1/policies/{policy.pk}/", {"retrain_after": 7}).json()
    assert (changed["retrain_after"], changed["gate"]) == (7, {"max_kl": 5.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recipe", {"no_such_stage": 1}),
        ("recipe", {"seed": 5}),
        ("gate", {"charm": 1}),
        ("gate", {"max_kl": "nan"}),
        ("retrain_after", -1),
        ("trust_remote_code", True),
        ("name", "two words"),
        ("name", "tiny"),
        ("base_model", "/no/such/folder"),
    ],
)
def test_a_wrong_policy_is_refused_at_its_field(maria, policy, name, value):
    response = maria.post("/api/v1/policies/", {"name": "new", "base_model": "some/model"} | {name: value})
    assert response.status_code == 400
    assert name in response.json()["fields"]
    assert Policy.objects.count() == 1


def test_ones_own_answers_can_be_looked_up(cast, pool, policy):
    ranking = make_ranking(make_comparison(make_prompt(pool, "x"), ["a", "b"]), cast["alice"], [1, 2])
    make_ranking(make_comparison(make_prompt(pool, "y"), ["a", "b"]), cast["bob"], [1, 2])
    alice = Caller(cast["alice"])
    [answer] = alice.get("/api/v1/assignments/").json()["results"]
    assert (answer["assignment"], answer["ranks"], answer["is_frozen"]) == (ranking.assignment_id, ranking.ranks, False)
    freeze_preferences(policy=policy)
    assert alice.get("/api/v1/assignments/").json()["results"][0]["is_frozen"] is True
