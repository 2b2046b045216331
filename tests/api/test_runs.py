"""Policies, checkpoints and runs over the API, and the numbers for Prometheus."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from annotate.models import PolicyCheckpoint
from annotate.services.snapshots import freeze_preferences
from tests.api.callers import Caller
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking
from trainer.models import RunMetric, TrainingRun

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def policy():
    return make_policy()


@pytest.fixture
def maria(cast):
    return Caller(cast["maria"])


@pytest.fixture
def ravi(cast):
    return Caller(cast["ravi"])


@pytest.fixture
def run(policy):
    return TrainingRun.objects.create(policy=policy, parent=policy.serving, stage="ppo", step=3, steps=24)


def test_policies_and_their_checkpoints_are_listed(ravi, policy):
    PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving, metrics={"kl": 2.5})
    [listed] = ravi.get("/api/v1/policies/").json()["results"]
    assert (listed["id"], listed["name"]) == (policy.pk, "tiny")
    base, first = ravi.get(f"/api/v1/policies/{policy.pk}/checkpoints/").json()["results"]
    assert {"id", "name", "number", "parent", "status", "metrics"} <= set(first)
    assert (first["name"], first["number"], first["parent"], first["metrics"]) == ("tiny-1", 1, base["id"], {"kl": 2.5})
    assert (base["status"], base["parent"]) == ("serving", None)


def test_a_manager_starts_one_run_at_a_time(maria, cast, policy):
    response = maria.post(f"/api/v1/policies/{policy.pk}/runs/")
    assert response.status_code == 201
    run = TrainingRun.objects.get()
    assert (response.json()["id"], response.json()["status"], run.started_by) == (run.pk, "queued", cast["maria"])
    again = maria.post(f"/api/v1/policies/{policy.pk}/runs/")
    assert (again.status_code, again.json()["code"]) == (409, "run_active")


def test_a_run_says_how_far_it_is(ravi, run):
    body = ravi.get(f"/api/v1/runs/{run.pk}/").json()
    assert (body["stage"], body["step"], body["steps"], body["parent"], body["candidate"]) == (
        "ppo",
        3,
        24,
        "tiny-0",
        None,
    )
    assert ravi.get("/api/v1/runs/").json()["results"] == [body]


def test_its_metrics_can_be_followed(ravi, run):
    for step in (1, 2):
        RunMetric.objects.create(run=run, stage="ppo", step=step, values={"objective/kl": step})
    path = f"/api/v1/runs/{run.pk}/metrics/"
    first, second = ravi.get(path).json()["results"]
    assert (first["step"], first["values"]) == (1, {"objective/kl": 1})
    assert ravi.get(path, after=first["id"]).json()["results"] == [second]
    assert ravi.get(path, after="x").status_code == 422


def test_a_run_is_cancelled_and_taken_up_again(maria, run):
    response = maria.post(f"/api/v1/runs/{run.pk}/cancel/")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert maria.post(f"/api/v1/runs/{run.pk}/cancel/").status_code == 422
    assert maria.post(f"/api/v1/runs/{run.pk}/resume/").json()["status"] == "queued"


def test_an_earlier_checkpoint_serves_again(maria, policy):
    earlier = PolicyCheckpoint.objects.create(policy=policy, number=1, status="retired", parent=policy.serving)
    response = maria.post(f"/api/v1/checkpoints/{earlier.pk}/roll-back/")
    assert (response.status_code, response.json()["status"]) == (200, "serving")
    assert policy.serving == earlier
    assert maria.post(f"/api/v1/checkpoints/{earlier.pk}/roll-back/").status_code == 422


def test_a_field_where_there_is_none_is_refused(maria, run, policy):
    assert maria.post(f"/api/v1/runs/{run.pk}/cancel/", {"force": True}).status_code == 400
    assert maria.post(f"/api/v1/policies/{policy.pk}/runs/", {"fast": True}).status_code == 400


@pytest.mark.parametrize(
    "path", ["policies/9/checkpoints/", "runs/9/", "runs/9/metrics/", "snapshots/9/", "runs/99999999999999999999/"]
)
def test_what_is_not_there_is_a_404_in_json(ravi, path):
    response = ravi.get(f"/api/v1/{path}")
    assert response.status_code == 404
    assert {"code", "detail"} <= set(response.json())


def test_lineage_is_answered_both_ways(ravi, cast, policy):
    pool = make_pool(policy)
    ranking = make_ranking(make_comparison(make_prompt(pool, "x"), ["a", "b"]), cast["alice"], [1, 2])
    snapshot = freeze_preferences(policy=policy)
    candidate = PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving)
    run = TrainingRun.objects.create(policy=policy, snapshot=snapshot, candidate=candidate, status="published")
    assert ravi.get(f"/api/v1/checkpoints/{candidate.pk}/lineage/").json() == {
        "checkpoints": ["tiny-1", "tiny-0"],
        "snapshots": [snapshot.pk],
        "rankings": 1,
        "annotators": [cast["alice"].pseudonym],
        "guidelines": [{"pool": "pool", "version": 1}],
    }
    assert [each["id"] for each in ravi.get(f"/api/v1/rankings/{ranking.pk}/runs/").json()] == [run.pk]
    assert ravi.get("/api/v1/rankings/999/runs/").status_code == 404


def test_prometheus_reads_the_numbers(cast, policy, run, broker):
    pool = make_pool(policy, buffer_size=7)
    prompt = make_prompt(pool, "x")
    make_ranking(make_comparison(prompt, ["a", "b"]), cast["alice"], [1, 2])
    make_comparison(prompt, ["a", "b"])
    ravi = Caller(cast["ravi"])
    token = ravi.client._credentials["HTTP_AUTHORIZATION"].replace("Token", "Bearer")
    ravi.client.credentials(HTTP_AUTHORIZATION=token)
    content = ravi.get("/metrics").content.decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(content)
        for sample in family.samples
    }
    assert found["whetstone_comparisons_ready", "pool"] == 1
    assert found["whetstone_comparisons_wanted", "pool"] == 7
    assert found["whetstone_rankings", "pool"] == 1
    assert found["whetstone_runs", "tiny", "queued"] == 1
    assert found["whetstone_serving_checkpoint", "tiny"] == 0
    assert ("whetstone_program_up", "train") in found
