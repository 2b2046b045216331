"""Leasing, answering, correcting and skipping over the API, as the contract says."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework.test import APIClient

from annotate.models import (
    Assignment,
    AuditEvent,
    Comparison,
    Demonstration,
    GuidelineVersion,
    PoolMember,
    PromptPool,
    Ranking,
)
from annotate.preferences import ranking_rows
from annotate.services.assignments import release_expired_leases
from annotate.services.pools import change_pool
from annotate.services.snapshots import freeze_preferences
from tests.api.callers import Caller
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def pool():
    return make_pool(make_policy())


@pytest.fixture
def prompt(pool):
    return make_prompt(pool, "Say hello", language="en")


@pytest.fixture
def comparison(prompt):
    return make_comparison(prompt, ["one", "two", "three"])


class AnnotatorCaller(Caller):
    def lease(self, **body):
        return self.post("/api/v1/assignments/", body)

    def leased(self, **body):
        response = self.lease(**body)
        assert response.status_code == 201, response.content
        return response.json()

    def send(self, assignment, call="ranking", key="key-1", **body):
        if call != "revision":
            body = {"token": assignment["token"], **body}
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self.post(f"/api/v1/assignments/{assignment['id']}/{call}/", body, **headers)


@pytest.fixture
def alice(cast):
    return AnnotatorCaller(cast["alice"])


@pytest.fixture
def bob(cast):
    return AnnotatorCaller(cast["bob"])


def in_order(assignment):
    """Ranks 1, 2, 3, … in the order in which the completions are shown."""
    return {str(each["id"]): rank for rank, each in enumerate(assignment["completions"], start=1)}


def test_it_leases_what_the_contract_says(alice, pool, prompt, comparison):
    body = alice.leased()
    assignment = Assignment.objects.get()
    assert body["id"] == assignment.pk
    assert body["token"] == assignment.token
    assert body["pool"] == pool.pk
    assert body["prompt"] == {
        "id": prompt.pk,
        "messages": [{"role": "user", "content": "Say hello"}],
        "language": "en",
    }
    assert [each["id"] for each in body["completions"]] == assignment.order
    assert {each["text"] for each in body["completions"]} == {"one", "two", "three"}
    assert body["ties_allowed"] is True
    assert body["guideline_version"] == 1
    assert not body["is_training"]


def test_whoever_ranks_does_not_learn_who_wrote_it(alice, comparison):
    content = json.dumps(alice.leased())
    assert "tiny-0" not in content
    assert "checkpoint" not in content
    assert "score" not in content


def test_there_is_nothing_to_lease_twice(alice, bob, comparison):
    alice.leased()
    for caller in (alice, bob):
        response = caller.lease()
        assert (response.status_code, response.content) == (204, b"")


def test_it_leases_from_the_pool_that_was_asked_for(alice, comparison):
    other = make_pool(comparison.pool.policy, "other")
    wanted = make_comparison(make_prompt(other, "x"), ["a", "b"])
    assert alice.leased(pool=other.pk)["prompt"]["id"] == wanted.prompt_id
    assert alice.lease(pool=other.pk).status_code == 204
    assert alice.lease(pool=2**63 - 1).status_code == 204


def test_nothing_is_lent_from_a_paused_pool_or_one_for_members(alice, cast, pool, comparison):
    PromptPool.objects.update(status=PromptPool.Status.PAUSED)
    assert alice.lease().status_code == 204
    PromptPool.objects.update(status=PromptPool.Status.ACTIVE, members_only=True)
    assert alice.lease().status_code == 204
    PoolMember.objects.create(pool=pool, user=cast["alice"])
    alice.leased()


def test_an_answer_is_stored_as_it_was_given(alice, cast, pool, comparison):
    PromptPool.objects.update(strength_scale=3)
    assignment = alice.leased()
    first, second, third = (
        str(pk) for pk in assignment["completions"] and [c["id"] for c in assignment["completions"]]
    )
    response = alice.send(
        assignment,
        ranks={first: 2, second: 2, third: 7},
        flags={first: ["untrue"]},
        axes={second: {"helpful": 5}},
        spans=[{"completion": int(third), "start": 0, "end": 3, "label": "wrong"}],
        strength=2,
        rationale=" because ",
        chips=["shorter"],
        better_answer="Hello!",
        active_ms=4000,
        first_action_ms=900,
        changes=1,
    )
    assert response.status_code == 201
    assert response.json()["ranks"] == {first: 1, second: 1, third: 2}
    ranking = Ranking.objects.get()
    assert (ranking.annotator, ranking.pool, ranking.revision) == (cast["alice"], pool, 1)
    assert ranking.ranks == {first: 1, second: 1, third: 2}
    assert ranking.flags == {first: ["untrue"]}
    assert ranking.axes == {second: {"helpful": 5}}
    assert ranking.spans[0]["completion"] == int(third)
    assert (ranking.strength, ranking.rationale, ranking.chips) == (2, "because", ["shorter"])
    assert (ranking.active_ms, ranking.first_action_ms, ranking.changes) == (4000, 900, 1)
    assert Demonstration.objects.get().text == "Hello!"
    assert Comparison.objects.get().answered == 1


def test_all_bad_needs_no_ranks(alice, comparison):
    response = alice.send(alice.leased(), all_bad=True)
    assert response.status_code == 201
    assert set(response.json()["ranks"].values()) == {1}
    assert Ranking.objects.get().all_bad


def test_the_same_key_twice_is_one_ranking_and_the_same_answer(alice, comparison):
    assignment = alice.leased()
    first = alice.send(assignment, ranks=in_order(assignment))
    again = alice.send(assignment, ranks=in_order(assignment))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert Ranking.objects.count() == 1
    assert Comparison.objects.get().answered == 1


def test_a_second_answer_with_another_key_is_refused(alice, comparison):
    assignment = alice.leased()
    alice.send(assignment, ranks=in_order(assignment))
    response = alice.send(assignment, key="key-2", ranks=in_order(assignment))
    assert (response.status_code, response.json()["code"]) == (409, "already_answered")


def test_a_key_belongs_to_one_answer(alice, prompt):
    make_comparison(prompt, ["a", "b"])
    make_comparison(prompt, ["c", "d"])
    first, second = alice.leased(), alice.leased()
    alice.send(first, ranks=in_order(first))
    response = alice.send(second, ranks=in_order(second))
    assert (response.status_code, response.json()["code"]) == (409, "key_used_twice")


def test_an_answer_that_is_sent_again_with_another_token_is_still_the_same(alice, comparison):
    assignment = alice.leased()
    first = alice.send(assignment, ranks=in_order(assignment)).json()
    again = alice.send({**assignment, "token": "another"}, ranks=in_order(assignment))
    assert (again.status_code, again.json()) == (200, first)


def test_a_refused_key_leaves_nothing_behind(alice, cast, prompt):
    make_comparison(prompt, ["a", "b"])
    make_comparison(prompt, ["c", "d"])
    first, second = alice.leased(), alice.leased()
    alice.send(first, ranks=in_order(first))
    assert alice.send(second, ranks=in_order(second), better_answer="Mine").json()["code"] == "key_used_twice"
    assert not Demonstration.objects.exists()
    assert alice.send(second, key="key-2", ranks=in_order(second)).status_code == 201


def test_two_people_may_use_the_same_key(alice, bob, prompt):
    make_comparison(prompt, ["a", "b"], overlap=2)
    for caller in (alice, bob):
        assignment = caller.leased()
        assert caller.send(assignment, ranks=in_order(assignment)).status_code == 201


def test_a_stale_token_is_refused(alice, bob, comparison):
    assignment = alice.leased()
    assert alice.send({**assignment, "token": "another"}, ranks=in_order(assignment)).status_code == 409
    Assignment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    bob.leased()
    response = alice.send(assignment, ranks=in_order(assignment))
    assert (response.status_code, response.json()["code"]) == (409, "stale_lease")
    assert response.json()["detail"].endswith(".")
    assert not Ranking.objects.exists()


def run_out() -> None:
    """Every lease is over, and the tick has been at it, as it is every few seconds."""
    Assignment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    release_expired_leases()


def test_a_late_answer_counts_while_nobody_else_has_the_place(alice, comparison):
    assignment = alice.leased()
    run_out()
    assert alice.send(assignment, ranks=in_order(assignment)).status_code == 201
    assert alice.send(assignment, ranks=in_order(assignment)).status_code == 200
    comparison.refresh_from_db()
    assert (comparison.taken, comparison.answered) == (1, 1)
    assert Assignment.objects.get().status == "answered"


def test_a_late_answer_that_says_too_little_takes_no_place(alice, comparison):
    assignment = alice.leased()
    run_out()
    assert alice.send(assignment, ranks={}).status_code == 422
    comparison.refresh_from_db()
    assert (comparison.taken, Assignment.objects.get().status) == (0, "expired")


def test_a_late_answer_does_not_count_once_the_comparison_is_withdrawn(alice, comparison):
    assignment = alice.leased()
    run_out()
    Comparison.objects.update(is_withdrawn=True)
    assert alice.send(assignment, ranks=in_order(assignment)).json()["code"] == "stale_lease"


def test_a_late_answer_does_not_count_once_its_texts_came_in_a_copy(alice, comparison):
    assignment = alice.leased()
    run_out()
    copy = make_comparison(comparison.prompt, ["one", "two", "three"], copied_from=comparison, priority=9)
    assert alice.leased()["id"] == Assignment.objects.get(comparison=copy).pk
    assert alice.send(assignment, ranks=in_order(assignment)).json()["code"] == "stale_lease"
    assert Comparison.objects.get(pk=comparison.pk).taken == 0


def test_a_late_skip_gives_the_place_back(alice, bob, comparison):
    assignment = alice.leased()
    run_out()
    assert alice.send(assignment, "skip", reason="too long").status_code == 204
    assert Assignment.objects.get().status == "skipped"
    assert bob.leased()["prompt"]["id"] == comparison.prompt_id


def test_a_comparison_that_comes_again_comes_as_it_was(alice, comparison):
    """Under the same token, in the same order: what was begun on it fits, and what was sent for it counts."""
    first = alice.leased()
    run_out()
    GuidelineVersion.objects.create(pool=comparison.pool, version=2, text="New ones")
    again = alice.leased()
    assert {name: again[name] for name in ("id", "token", "completions")} == {
        name: first[name] for name in ("id", "token", "completions")
    }
    assert (first["guideline_version"], again["guideline_version"]) == (1, 2)
    assert parse_datetime(again["expires_at"]) > timezone.now()
    assert Assignment.objects.get().finished_at is None
    assert Comparison.objects.get().taken == 1


def test_nobody_answers_for_somebody_else(alice, bob, comparison):
    assignment = alice.leased()
    for call in ("ranking", "skip"):
        assert bob.send(assignment, call).status_code == 409
    assert bob.send(assignment, "revision", ranks=in_order(assignment)).status_code == 422


@pytest.mark.parametrize(
    "ranks", [{}, {"first": 1}, {"first": 1, "second": 2}, {"first": 1, "second": 2, "third": 3, "other": 4}]
)
def test_a_ranking_must_be_complete(alice, comparison, ranks):
    assignment = alice.leased()
    names = dict(zip(["first", "second", "third"], in_order(assignment), strict=True)) | {"other": "999999"}
    response = alice.send(assignment, ranks={names[name]: rank for name, rank in ranks.items()})
    assert (response.status_code, response.json()["code"]) == (422, "incomplete_ranking")
    assert Assignment.objects.get().status == "leased"


def test_ties_are_refused_where_the_pool_has_none(alice, comparison):
    PromptPool.objects.update(ties_allowed=False)
    assignment = alice.leased()
    assert alice.send(assignment, ranks=dict.fromkeys(in_order(assignment), 1)).status_code == 422
    assert alice.send(assignment, all_bad=True).status_code == 201


@pytest.mark.parametrize("body", [{"flags": {"999": ["untrue"]}}, {"strength": 3}, {"axes": {"999": {"helpful": 5}}}])
def test_flags_axes_and_strength_must_belong_to_the_comparison(alice, comparison, body):
    PromptPool.objects.update(strength_scale=2)
    assignment = alice.leased()
    assert alice.send(assignment, ranks=in_order(assignment), **body).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {"ranks": []},
        {"ranks": {"x": 1}},
        {"ranks": {"01": 1}},
        {"ranks": {"١": 1}},
        {"ranks": {"1": 0}},
        {"ranks": {"1": 1.5}},
        {"ranks": {"1": None}},
        {"ranks": {"1": 10**30}},
        {"ranks": {"9" * 25: 1}},
        {"all_bad": "perhaps"},
        {"flags": {"1": "untrue"}},
        {"flags": {"1": ["x" * 61]}},
        {"axes": {"1": {"helpful": 6}}},
        {"spans": [{"completion": 1, "start": -1, "end": 2}]},
        {"strength": 99},
        {"rationale": "nul\0"},
        {"rationale": "half \ud83d a pair"},
        {"flags": {"1": ["nul\0"]}},
        {"rationale": 5 * ["x"]},
        {"active_ms": -1},
        {"active_ms": 10**12},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_body_that_is_not_right_is_a_400_with_a_sentence(alice, comparison, body):
    response = alice.send(alice.leased(), **body)
    assert response.status_code == 400, response.content
    assert response.json()["detail"]
    assert not Ranking.objects.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"a":' * 50_000, "\ud83d", '{"ranks": {"1": NaN}}'])
def test_a_body_that_is_no_json_is_a_400(alice, comparison, content):
    assignment = alice.leased()
    response = alice.client.post(
        f"/api/v1/assignments/{assignment['id']}/ranking/",
        content.encode("utf-8", "surrogatepass"),
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )
    assert response.status_code == 400
    assert {"code", "detail"} <= set(response.json())


def test_an_unknown_field_is_named(alice):
    body = alice.lease(pol=1).json()
    assert body["code"] == "invalid"
    assert body["detail"] == "pol: There is no such field. There are: pool, holding."


@pytest.mark.parametrize("key", [None, "", "x" * 81, "schlüssel"])
def test_an_answer_needs_a_key(alice, comparison, key):
    assignment = alice.leased()
    response = alice.send(assignment, key=key, ranks=in_order(assignment))
    assert response.status_code == 400
    assert "Idempotency-Key" in response.json()["detail"]


def test_skipping_gives_the_place_to_somebody_else(alice, bob, comparison):
    assignment = alice.leased()
    for _again in range(2):
        assert alice.send(assignment, "skip", reason="not my field").status_code == 204
    assert Assignment.objects.get().skip_reason == "not my field"
    assert Comparison.objects.get().taken == 0
    assert alice.lease().status_code == 204
    bob.leased()


def test_what_cannot_be_ranked_is_shown_to_nobody_else(alice, bob, comparison):
    alice.send(alice.leased(), "skip", reason="not rankable: unsafe")
    comparison.refresh_from_db()
    assert (comparison.is_withdrawn, comparison.taken) == (True, 0)
    assert bob.lease().status_code == 204


@pytest.mark.parametrize("has_answered", [True, False])
def test_what_cannot_be_ranked_stays_where_somebody_else_has_a_place(alice, bob, prompt, has_answered):
    comparison = make_comparison(prompt, ["a", "b"], overlap=3)
    first, second = bob.leased(), alice.leased()
    if has_answered:
        bob.send(first, ranks=in_order(first))
    alice.send(second, "skip", reason="not rankable: no_sense")
    comparison.refresh_from_db()
    assert (comparison.is_withdrawn, comparison.taken) == (False, 1)


def test_gold_stays_whatever_one_says_of_it(alice, comparison):
    Comparison.objects.update(kind="gold", overlap=100)
    PromptPool.objects.update(gold_share=0.5)
    response = alice.lease()
    while response.status_code == 204:  # gold comes by chance
        response = alice.lease()
    alice.send(response.json(), "skip", reason="not rankable: no_sense")
    comparison.refresh_from_db()
    assert (comparison.is_withdrawn, comparison.taken) == (False, 0)


def test_nothing_is_skipped_in_training(alice, comparison):
    Comparison.objects.update(kind="training", gold_ranks={}, overlap=100)
    PromptPool.objects.update(training_count=1)
    response = alice.send(alice.leased(), "skip", reason="skip: language")
    assert (response.status_code, response.json()["code"]) == (422, "no_skip_in_training")
    assert Assignment.objects.get().status == "leased"


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("steps", "name"), [(0, "pool"), (2, "renamed")])
def test_what_was_begun_before_the_settings_changed_counts(alice, pool, comparison, steps, name, is_late):
    """Ties and a strength of 3 were right when the form was drawn; its lease may have begun anew since."""
    PromptPool.objects.update(strength_scale=3)
    assignment = alice.leased()
    change_pool(pool=pool, by=None, ties_allowed=False, strength_scale=steps, name=name)
    if is_late:
        run_out()
    first, second, third = in_order(assignment)
    ranks = {first: 1, second: 2, third: 2}
    assert alice.send(assignment, ranks=ranks, strength=3).status_code == 201
    assert (Ranking.objects.get().ranks, Ranking.objects.get().strength) == (ranks, 3)
    turned = {first: 2, second: 2, third: 1}
    assert alice.send(assignment, "revision", key="key-2", ranks=turned, strength=3).status_code == 201


@pytest.mark.parametrize("said", [{"ties": True}, {"strength": 3}])
def test_what_is_begun_long_after_the_settings_changed_keeps_to_them(alice, pool, comparison, said):
    PromptPool.objects.update(strength_scale=3)
    change_pool(pool=pool, by=None, ties_allowed=False, strength_scale=2)
    AuditEvent.objects.update(created_at=timezone.now() - timedelta(days=8))
    assignment = alice.leased()
    change_pool(pool=pool, by=None, flags=[])  # which has nothing to do with it
    first, second, third = in_order(assignment)
    ranks = {first: 1, second: 2, third: 2 if "ties" in said else 3}
    response = alice.send(assignment, ranks=ranks, strength=said.get("strength"))
    assert (response.status_code, response.json()["code"]) == (422, "incomplete_ranking")


def test_an_answered_comparison_cannot_be_skipped_away(alice, comparison):
    assignment = alice.leased()
    alice.send(assignment, ranks=in_order(assignment))
    alice.send(assignment, "skip", reason="too late")
    comparison.refresh_from_db()
    assert (comparison.taken, comparison.answered) == (1, 1)


def test_a_correction_is_a_new_revision_and_the_old_one_stays(alice, comparison):
    assignment = alice.leased()
    ranks = in_order(assignment)
    alice.send(assignment, ranks=ranks)
    turned = {key: 4 - rank for key, rank in ranks.items()}
    corrected = alice.send(assignment, "revision", key="key-2", ranks=turned)
    again = alice.send(assignment, "revision", key="key-2", ranks=turned)
    assert (corrected.status_code, again.status_code) == (201, 200)
    assert corrected.json() == again.json()
    assert corrected.json()["revision"] == 2
    old, new = Ranking.objects.order_by("revision")
    assert (old.ranks, old.is_current, new.ranks, new.is_current) == (ranks, False, turned, True)


def everything_said(assignment) -> dict:
    first, second, third = in_order(assignment)
    return {
        "ranks": {first: 1, second: 2, third: 2},
        "flags": {first: ["untrue", "unsafe"]},
        "axes": {second: {"helpful": 5}},
        "spans": [{"completion": int(third), "start": 0, "end": 3, "label": "good"}],
        "strength": 2,
        "rationale": "because",
        "chips": ["shorter"],
        "better_answer": "Hello!",
    }


def test_a_correction_that_changes_nothing_stores_nothing_and_says_so(alice, comparison):
    PromptPool.objects.update(strength_scale=3)
    assignment = alice.leased()
    said = everything_said(assignment)
    alice.send(assignment, **said, active_ms=4000)
    first, second, third = in_order(assignment)
    same = said | {"ranks": {first: 3, second: 7, third: 7}, "rationale": " because ", "active_ms": 900}
    response = alice.send(assignment, "revision", key="key-2", **same)
    assert (response.status_code, response.json()["code"]) == (422, "nothing_changed")
    assert response.json()["detail"] == "Nothing was changed: your answer stands as it was."
    ranking = Ranking.objects.get()
    assert (ranking.revision, ranking.is_current, ranking.active_ms) == (1, True, 4000)


@pytest.mark.parametrize(
    "change",
    [
        {"ranks": [1, 2, 3]},
        {"all_bad": True},
        {"flags": {}},
        {"axes": {}},
        {"spans": []},
        {"strength": None},
        {"rationale": "no"},
        {"chips": []},
        {"better_answer": "Good day!"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_correction_of_one_thing_is_a_revision(alice, comparison, change):
    PromptPool.objects.update(strength_scale=3)
    assignment = alice.leased()
    said = everything_said(assignment)
    alice.send(assignment, **said)
    if "ranks" in change:
        change = {"ranks": in_order(assignment)}
    assert alice.send(assignment, "revision", key="key-2", **(said | change)).status_code == 201
    assert Ranking.objects.get(is_current=True).revision == 2


def test_a_correction_sent_again_answers_as_before_though_it_would_change_nothing_now(alice, comparison):
    assignment = alice.leased()
    ranks = in_order(assignment)
    alice.send(assignment, ranks=ranks)
    turned = {key: 4 - rank for key, rank in ranks.items()}
    first = alice.send(assignment, "revision", key="key-2", ranks=turned)
    again = alice.send(assignment, "revision", key="key-2", ranks=turned)
    assert (again.status_code, again.json()) == (200, first.json())
    assert alice.send(assignment, "revision", key="key-3", ranks=turned).json()["code"] == "nothing_changed"
    assert Ranking.objects.count() == 2


def test_a_correction_without_the_better_answer_takes_that_back(alice, comparison):
    assignment = alice.leased()
    ranks = in_order(assignment)
    alice.send(assignment, ranks=ranks, better_answer="Hello!")
    assert alice.send(assignment, "revision", key="key-2", ranks=ranks, better_answer=" ").status_code == 201
    assert [row.better_answer for row in ranking_rows(Ranking.objects.current())] == [None]


def test_each_revision_keeps_the_better_answer_that_it_said(alice, comparison):
    assignment = alice.leased()
    ranks = in_order(assignment)
    alice.send(assignment, ranks=ranks, better_answer="Hello!")
    alice.send(assignment, "revision", key="key-2", ranks=dict.fromkeys(ranks, 1), better_answer="Hello!")
    alice.send(assignment, "revision", key="key-3", ranks=ranks, better_answer="Good day!")
    said = Demonstration.objects.order_by("ranking__revision").values_list("ranking__revision", "text")
    assert list(said) == [(1, "Hello!"), (2, "Hello!"), (3, "Good day!")]
    assert [row.better_answer for row in ranking_rows(Ranking.objects.current())] == ["Good day!"]


def test_a_used_answer_cannot_be_corrected(alice, comparison):
    assignment = alice.leased()
    alice.send(assignment, ranks=in_order(assignment))
    freeze_preferences(policy=comparison.pool.policy)
    response = alice.send(assignment, "revision", key="key-2", ranks=in_order(assignment))
    assert (response.status_code, response.json()["code"]) == (409, "frozen_ranking")


def test_a_lost_lease_comes_back_first_the_oldest_first_and_renewed(alice, prompt):
    for text in "abc":
        make_comparison(prompt, [text, text * 2])
    first, second = alice.leased(), alice.leased()
    Assignment.objects.update(expires_at=timezone.now() + timedelta(seconds=5))
    back = alice.leased(holding=[])
    assert (back["id"], back["token"]) == (first["id"], first["token"])
    assert Assignment.objects.get(pk=first["id"]).expires_at > timezone.now() + timedelta(minutes=25)
    assert alice.leased(holding=[first["id"]])["id"] == second["id"]
    third = alice.leased(holding=[first["id"], second["id"]])
    assert third["id"] not in (first["id"], second["id"])
    assert alice.lease(holding=[first["id"], second["id"], third["id"]]).status_code == 204


def test_nobody_gets_the_lost_lease_of_somebody_else(alice, bob, comparison):
    alice.leased()
    assert bob.lease(holding=[]).status_code == 204


def test_a_lost_lease_of_another_pool_is_not_handed_back(alice, comparison):
    other = make_pool(comparison.pool.policy, "other")
    alice.leased()
    assert alice.lease(holding=[], pool=other.pk).status_code == 204


def test_a_training_answer_comes_back_with_feedback(alice, cast, pool, prompt):
    PromptPool.objects.update(training_count=1)
    training = make_comparison(prompt, ["good", "bad"], kind=Comparison.Kind.TRAINING, overlap=100)
    good, bad = training.completions.all()
    training.gold_ranks = {str(good.pk): 1, str(bad.pk): 2}
    training.gold_explanation = "Good is better."
    training.save()
    fresh = make_comparison(prompt, ["a", "b"])

    assignment = alice.leased()
    assert assignment["is_training"]
    body = alice.send(assignment, ranks=training.gold_ranks).json()
    assert body["feedback"] == {"is_right": True, "gold_ranks": training.gold_ranks, "explanation": "Good is better."}
    assert alice.send(assignment, ranks=training.gold_ranks).json() == body
    assert not Ranking.objects.get().counts

    assignment = alice.leased()
    assert assignment["prompt"]["id"] == fresh.prompt_id
    assert alice.send(assignment, key="key-2", ranks=in_order(assignment)).json()["feedback"] is None


@pytest.mark.parametrize(("name", "status"), [("ravi", 403), ("olaf", 403), ("maria", 201), ("sue", 201)])
def test_only_those_who_may_annotate_are_lent_anything(cast, comparison, name, status):
    assert AnnotatorCaller(cast[name]).lease().status_code == status


def test_a_stranger_is_asked_to_sign_in(comparison):
    response = APIClient().post("/api/v1/assignments/", {}, format="json")
    assert response.status_code == 401
    assert response.json()["code"] == "not_authenticated"


def test_a_browser_session_needs_the_forgery_token(cast, comparison):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast["alice"])
    assert browser.post("/api/v1/assignments/", "{}", content_type="application/json").status_code == 403
    browser.cookies["csrftoken"] = "t" * 32
    response = browser.post(
        "/api/v1/assignments/", "{}", content_type="application/json", headers={"X-CSRFToken": "t" * 32}
    )
    assert response.status_code == 201


def test_leasing_and_answering_take_few_statements(alice, prompt, django_assert_max_num_queries):
    for text in "ab":
        make_comparison(prompt, [text, text * 2, text * 3, text * 4])
    with django_assert_max_num_queries(8):
        assignment = alice.leased(holding=[])
    with django_assert_max_num_queries(8):
        assert alice.send(assignment, ranks=in_order(assignment)).status_code == 201
