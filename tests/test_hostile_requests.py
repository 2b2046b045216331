"""Values that nobody sends by accident, to every address, by somebody who may do everything: never a crash."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Assignment, Invitation
from annotate.services.assignments import lease_next_comparison
from annotate.services.snapshots import freeze_preferences
from tests.test_permissions import MATRIX, every_address
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking
from trainer.models import TrainingRun

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("broker")]

VALUES = ["nul\0", "9" * 30, "NaN"]
QUERY = ("page", "q", "pool", "tag", "state", "split", "since", "format", "file", "snapshot")
QUERY += ("limit", "offset", "after", "next", "language", "policy", "min_strength")
SIGNS_OUT = {"account_logout", "leave", "person_withdraw", "person_deactivate", "person_role"}
FIELD = re.compile(r'name="([\w.-]+)"')


@pytest.fixture
def world():
    """One of everything, and what to put into the blanks of an address."""
    cast, policy = make_cast(), make_policy()
    pool = make_pool(policy, overlap=2)
    prompt = make_prompt(pool, "Say hello")
    comparison = make_comparison(prompt, ["hi", "hello"])
    make_ranking(comparison, cast["alice"], [1, 2])
    snapshot = freeze_preferences(policy=policy)
    run = TrainingRun.objects.create(policy=policy, snapshot=snapshot, parent=policy.serving)
    open_invitation = Invitation.objects.create(
        email="new@example.org", role="annotator", expires_at=timezone.now() + timedelta(days=1)
    )
    lease = lease_next_comparison(annotator=cast["sue"])
    return cast["sue"], {
        "pool_id": pool.pk,
        "prompt_id": prompt.pk,
        "comparison_id": comparison.pk,
        "assignment_id": lease.pk,
        "version_id": pool.guidelines.pk,
        "snapshot_id": snapshot.pk,
        "run_id": run.pk,
        "policy_id": policy.pk,
        "checkpoint_id": policy.serving.pk,
        "person_id": cast["alice"].pk,
        "invitation_id": open_invitation.pk,
        "token": open_invitation.token,
        "name": "loss",
        "rest": "v1/nothing",
        "key": "a-key",
        "uidb36": "a",
    }


def api_blank(name: str, blanks: dict) -> int:
    for part, blank in (("assignment", "assignment_id"), ("pool", "pool_id"), ("snapshot", "snapshot_id")):
        if part in name:
            return blanks[blank]
    return blanks["run_id" if "run" in name and "policy" not in name else "policy_id"]


@pytest.mark.parametrize("name", sorted(set(MATRIX) - SIGNS_OUT))
def test_no_address_falls_over(world, name):
    sue, blanks = world
    client = Client(raise_request_exception=True)
    client.force_login(sue)
    names = every_address()[name].pattern.regex.groupindex
    path = reverse(name, kwargs={blank: blanks.get(blank) or api_blank(name, blanks) for blank in names})
    page = client.get(path)
    content = b"".join(page.streaming_content) if page.streaming else page.content
    fields = set(FIELD.findall(content.decode(errors="replace"))) | {"key", "token", "rationale", "holding"}
    for value in VALUES:
        responses = [
            client.get(path, dict.fromkeys(QUERY, value)),
            client.post(path, dict.fromkeys(fields, value)),
        ]
        for response in responses:
            assert response.status_code < 500 or name == "readyz", f"{path} {value!r}: {response.status_code}"
    body = '{"pool": 1e999, "a\\u0000": "\\ud83d"}'
    assert client.post(path, body, content_type="application/json").status_code < 500


def test_a_plain_form_with_nul_characters_is_refused_or_cleaned(world):
    sue, blanks = world
    client = Client(raise_request_exception=True)
    client.force_login(sue)
    assignment = Assignment.objects.get(pk=blanks["assignment_id"])
    ranks = {f"rank-{pk}": rank for rank, pk in enumerate(assignment.order, start=1)}
    nul = {"rationale": "why\0", "chip": "a\0", f"flag-{assignment.order[0]}": "b\0", "better": "c\0"}
    nul |= {"better_answer": "c\0", "reason": "d\0", "skip_reason": "d\0"}
    form = {"assignment": assignment.pk, "token": assignment.token, "key": "k", **ranks, **nul}
    for change in ({"key": "k\0"}, {"token": "t\0"}, {"leave": "a\0", "leave_words": "\0", "token": "t\0"}, {}):
        assert client.post("/rank/", form | change).status_code < 500
    correction = form | {"key": "k2"}
    assert client.post(f"/work/{assignment.pk}/", correction | {"key": "x\0"}).status_code < 500
    assert client.post(f"/work/{assignment.pk}/", correction).status_code < 500
