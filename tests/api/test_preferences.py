"""Exports and snapshots over the API."""

import io
import json

import pyarrow.parquet
import pytest

from annotate.models import PreferenceSnapshot
from tests.api.callers import Caller
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def policy():
    return make_policy()


@pytest.fixture
def ranking(cast, policy):
    comparison = make_comparison(make_prompt(make_pool(policy), "Say hello"), ["hi", "hello"])
    return make_ranking(comparison, cast["alice"], [2, 1])


@pytest.fixture
def ravi(cast):
    return Caller(cast["ravi"])


def body_of(response):
    return b"".join(response.streaming_content)


def test_it_streams_json_lines_by_default(ravi, ranking):
    response = ravi.get("/api/v1/preferences/")
    assert response.streaming
    assert response["Content-Disposition"].endswith('.jsonl"')
    [record] = [json.loads(line) for line in body_of(response).splitlines()]
    assert (record["chosen"], record["rejected"]) == (" hello", " hi")


@pytest.mark.parametrize("format", ["trl", "trl-conversational", "hh", "moss", "rankings"])
def test_it_exports_every_format_as_parquet(ravi, ranking, format):
    content = body_of(ravi.get("/api/v1/preferences/", format=format, file="parquet"))
    assert pyarrow.parquet.read_table(io.BytesIO(content)).num_rows == 1


def test_it_does_not_mind_what_a_client_accepts(ravi, ranking):
    response = ravi.client.get("/api/v1/preferences/", headers={"Accept": "application/vnd.apache.parquet"})
    assert response.status_code == 200


def test_it_filters(ravi, ranking, policy):
    assert body_of(ravi.get("/api/v1/preferences/", policy=policy.name, since="2000-01-01"))
    assert not body_of(ravi.get("/api/v1/preferences/", language="fr"))


@pytest.mark.parametrize(
    "query", [{"format": "xml"}, {"file": "zip"}, {"pool": "x"}, {"pool": 999}, {"colour": "red"}, {"since": "\0"}]
)
def test_a_wrong_query_is_a_sentence_and_no_file(ravi, query):
    response = ravi.get("/api/v1/preferences/", **query)
    assert (response.status_code, response.json()["code"]) == (422, "wrong_filter")


def test_it_freezes_and_exports_a_snapshot(ravi, ranking, policy):
    response = ravi.post("/api/v1/snapshots/", {"policy": policy.pk, "filters": {"language": "en"}, "note": "paper"})
    assert response.status_code == 201
    snapshot = PreferenceSnapshot.objects.get()
    assert response.json()["content_hash"] == snapshot.content_hash
    assert ravi.get("/api/v1/snapshots/").json()["results"] == [response.json()]
    assert ravi.get(f"/api/v1/snapshots/{snapshot.pk}/").json()["note"] == "paper"
    card = ravi.get(f"/api/v1/snapshots/{snapshot.pk}/card/")
    assert snapshot.content_hash in card.content.decode()
    assert len(body_of(ravi.get("/api/v1/preferences/", snapshot=snapshot.pk)).splitlines()) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"policy": "x"}, 400),
        ({"policy": 999}, 404),
        ({"policy": 1, "filters": {"language": "fr"}}, 422),
        ({"policy": 1, "filters": {"colour": "red"}}, 422),
        ({"policy": 1, "filters": {"tag": ["a"]}}, 422),
        ({"policy": 1, "filters": {"snapshot": 1}}, 422),
        ({"policy": 1, "filters": "x"}, 400),
    ],
)
def test_a_snapshot_that_cannot_be_is_refused(ravi, ranking, policy, body, status):
    if body.get("policy") == 1:
        body = body | {"policy": policy.pk}
    response = ravi.post("/api/v1/snapshots/", body)
    assert response.status_code == status
    assert response.json()["detail"]
    assert not PreferenceSnapshot.objects.exists()
