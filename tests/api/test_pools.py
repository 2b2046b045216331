"""Pools and prompts over the API."""

import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from annotate.models import AuditEvent, PromptPool
from tests.api.callers import Caller
from tests.worlds import make_cast, make_policy, make_pool, make_prompt

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def policy():
    return make_policy()


@pytest.fixture
def pool(policy):
    return make_pool(policy, gold_share=0.25)


@pytest.fixture
def maria(cast):
    return Caller(cast["maria"])


@pytest.fixture
def alice(cast):
    return Caller(cast["alice"])


def test_a_manager_makes_a_pool(maria, policy):
    response = maria.post(
        "/api/v1/pools/",
        {
            "name": "Poems",
            "policy": policy.pk,
            "language": "fr",
            "k": 3,
            "overlap": 2,
            "sampling": {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 64},
            "axes": ["helpful"],
            "guidelines": "Be kind.",
        },
    )
    assert response.status_code == 201, response.content
    pool = PromptPool.objects.get()
    assert (pool.name, pool.k, pool.overlap, pool.sampling["top_p"], pool.axes) == ("Poems", 3, 2, 0.9, ["helpful"])
    assert pool.guidelines.text == "Be kind."
    body = response.json()
    assert (body["id"], body["guidelines"], body["status"], body["prompt_count"]) == (pool.pk, "Be kind.", "active", 0)


def test_a_pool_may_start_paused(maria, policy):
    body = {"name": "Later", "policy": policy.pk, "status": "paused", "status_reason": "Not yet."}
    response = maria.post("/api/v1/pools/", body)
    assert (response.json()["status"], response.json()["status_reason"]) == ("paused", "Not yet.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 1},
        {"k": 10},
        {"overlap": 0},
        {"overlap": 10**20},
        {"gold_share": 0.9},
        {"gold_share": "nan"},
        {"incumbent_share": "Infinity"},
        {"sampling": {"temperature": 1.0}},
        {"sampling": {"temperature": "nan", "top_p": 1, "max_new_tokens": 5}},
        {"sampling": {"temperature": 1, "top_p": 1, "max_new_tokens": 5, "magic": 1}},
        {"strength_scale": 1},
        {"axes": "helpful"},
        {"axes": ["x" * 41]},
        {"buffer_size": 0},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "pool"},
        {"policy": 999},
        {"status": "asleep"},
        {"colour": "red"},
        {"id": 7},
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(maria, policy, pool, wrong):
    response = maria.post("/api/v1/pools/", {"name": "New", "policy": policy.pk} | wrong)
    assert response.status_code == 400, response.content
    assert next(iter(wrong)) in response.json()["fields"]
    assert next(iter(wrong)) in response.json()["detail"]
    assert PromptPool.objects.count() == 1


def test_a_manager_changes_and_pauses_and_resumes(maria, pool):
    path = f"/api/v1/pools/{pool.pk}/"
    body = maria.patch(path, {"k": 5, "guidelines": "Be kinder.", "status": "paused", "status_reason": "Lunch."}).json()
    assert (body["k"], body["guidelines"], body["status"], body["status_reason"]) == (
        5,
        "Be kinder.",
        "paused",
        "Lunch.",
    )
    assert pool.guideline_versions.count() == 2
    assert maria.patch(path, {"status": "active"}).json()["status"] == "active"
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert actions == {"change.pool", "write.guidelines", "pause.pool", "resume.pool"}


def test_a_change_is_whole_or_not_at_all(maria, pool, monkeypatch):
    def broken(**_kwargs):
        raise RuntimeError

    monkeypatch.setattr("annotate.api.pools.write_guidelines", broken)
    with pytest.raises(RuntimeError):
        maria.patch(f"/api/v1/pools/{pool.pk}/", {"k": 5, "guidelines": "Be kinder."})
    pool.refresh_from_db()
    assert pool.k == 4


def test_an_annotator_sees_what_there_is_to_work_in_and_no_more(alice, policy, pool):
    make_pool(policy, "for members", members_only=True)
    make_pool(policy, "asleep", status="paused")
    body = alice.get("/api/v1/pools/").json()
    assert [each["name"] for each in body["results"]] == ["pool"]
    assert "gold_share" not in body["results"][0] and "sampling" not in body["results"][0]
    assert alice.get(f"/api/v1/pools/{pool.pk}/").json()["guidelines"] == "Be kind."
    assert alice.get(f"/api/v1/pools/{PromptPool.objects.get(name='asleep').pk}/").status_code == 404
    assert alice.post("/api/v1/pools/").status_code == alice.patch(f"/api/v1/pools/{pool.pk}/", {}).status_code == 403


def test_lists_take_as_many_statements_for_many_pools_as_for_few(maria, policy, django_assert_max_num_queries):
    for number in range(12):
        make_pool(policy, f"pool {number}")
    with django_assert_max_num_queries(16):
        assert maria.get("/api/v1/pools/").json()["count"] == 12


@pytest.mark.parametrize("query", [{"limit": "x"}, {"offset": "9" * 30}, {"limit": "-1", "offset": "-5"}])
def test_a_strange_page_is_an_empty_or_a_first_one(maria, pool, query):
    assert maria.get("/api/v1/pools/", **query).status_code == 200


def test_prompts_are_listed_a_page_at_a_time(cast, pool):
    for number in range(3):
        make_prompt(pool, f"prompt {number}", tags=["odd"] if number % 2 else [])
    ravi = Caller(cast["ravi"])
    path = f"/api/v1/pools/{pool.pk}/prompts/"
    body = ravi.get(path, limit=2).json()
    assert (body["count"], len(body["results"])) == (3, 2)
    assert [each["messages"][0]["content"] for each in ravi.get(path, tag="odd").json()["results"]] == ["prompt 1"]
    assert ravi.get(path, tag="nul\0").status_code == 200
    assert ravi.get("/api/v1/pools/999999999999999999999/prompts/").status_code == 404


class TestImport:
    @pytest.fixture
    def send(self, maria, pool):
        def send(content, content_type="application/jsonl"):
            path = f"/api/v1/pools/{pool.pk}/prompts/"
            return maria.client.generic("POST", path, content, content_type=content_type)

        return send

    def test_it_takes_json_lines(self, send, pool):
        response = send(b'{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "a"}\n')
        assert response.status_code == 201
        assert response.json() == {"rows": 3, "added": 2, "duplicates": 1, "bad": 0, "bad_rows": [], "ignored": []}
        assert pool.prompts.count() == 2

    def test_it_takes_csv_and_parquet(self, send, pool):
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"prompt": ["c"]}), file)
        assert send(b"prompt\nb\n", "text/csv; charset=utf-8").status_code == 201
        assert send(file.getvalue(), "application/vnd.apache.parquet").status_code == 201
        assert {str(prompt) for prompt in pool.prompts.all()} == {"b", "c"}

    def test_it_takes_an_upload(self, maria, pool):
        path = f"/api/v1/pools/{pool.pk}/prompts/"
        by_name = SimpleUploadedFile("prompts.csv", b"prompt\na\n")
        assert maria.client.post(path, {"file": by_name}, format="multipart").status_code == 201
        named = SimpleUploadedFile("prompts.txt", b"prompt\nb\n")
        assert maria.client.post(path, {"file": named, "format": "csv"}, format="multipart").status_code == 201
        unnamed = SimpleUploadedFile("prompts.txt", b"prompt\nb\n")
        assert maria.client.post(path, {"file": unnamed}, format="multipart").status_code == 422
        assert maria.client.post(path, {"file": "no file"}, format="multipart").status_code == 422

    def test_it_reports_bad_rows_and_imports_nothing(self, send, pool):
        response = send(b'{"prompt": "a"}\nnonsense\n')
        assert response.status_code == 422
        body = response.json()
        assert (body["code"], body["bad_rows"][0]["line"]) == ("bad_rows", 2)
        assert "Line 2" in body["detail"]
        assert not pool.prompts.exists()

    def test_it_refuses_a_type_it_does_not_know(self, send):
        assert send(json.dumps({"prompt": "a"}).encode(), "application/json").status_code == 415

    def test_it_does_not_read_more_than_it_takes(self, send, monkeypatch):
        for module in ("annotate.api.prompts", "annotate.services.imports"):
            monkeypatch.setattr(f"{module}.LARGEST_FILE", 2**20)
        response = send(b"x" * (2**20 + 200_000))
        assert (response.status_code, response.json()["code"]) == (422, "wrong_file")

    @pytest.mark.parametrize(("name", "status"), [("alice", 403), ("ravi", 403), ("sue", 201)])
    def test_it_is_for_managers(self, cast, pool, name, status):
        client = Caller(cast[name]).client
        path = f"/api/v1/pools/{pool.pk}/prompts/"
        assert client.generic("POST", path, b'{"prompt": "a"}', "application/jsonl").status_code == status


def test_a_large_json_body_is_refused_unread(maria):
    response = maria.post("/api/v1/pools/", {"name": "x" * (2 * 2**20)})
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_why_a_pool_cannot_be_written_for_is_for_managers_alone(alice, maria, pool):
    PromptPool.objects.update(status_reason="No comparisons can be written: there is no model in /srv/base")
    path = f"/api/v1/pools/{pool.pk}/"
    assert maria.get(path).json()["status_reason"].endswith("/srv/base")
    assert alice.get(path).json()["status_reason"] == ""
