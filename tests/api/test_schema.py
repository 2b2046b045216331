"""The OpenAPI schema and the page that shows it."""

import json
import re

import pytest
from django.urls import get_resolver

from tests.test_permissions import patterns_of
from tests.worlds import make_cast

pytestmark = pytest.mark.django_db


@pytest.fixture
def ravi(client):
    client.force_login(make_cast()["ravi"])
    return client


def test_every_call_is_in_the_schema_with_a_summary(ravi, capsys):
    schema = json.loads(ravi.get("/api/schema/").content)
    assert capsys.readouterr().err == ""  # the generator says there what it could not tell
    calls = [pattern for pattern in patterns_of(get_resolver().url_patterns) if hasattr(pattern.callback, "cls")]
    documented = {pattern.name for pattern in calls} - {"api", "api_schema"}
    assert len(schema["paths"]) == len(documented)
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            assert call["summary"], f"{method} {path}"
    assert any(
        parameter["name"] == "Idempotency-Key"
        for parameter in schema["paths"]["/api/v1/assignments/{id}/ranking/"]["post"]["parameters"]
    )


def test_the_page_loads_nothing_from_elsewhere_and_keeps_the_policy(ravi):
    response = ravi.get("/api/")
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', response.text)
    assert [address for address in addresses if not address.startswith(("/", "#"))] == []
    assert "<style" not in response.text and " style=" not in response.text
    assert response["Content-Security-Policy"] == ravi.get("/nothing/")["Content-Security-Policy"]


def test_the_page_shows_every_call_of_the_schema(ravi):
    schema = ravi.get("/api/schema/").json()
    page = ravi.get("/api/").text
    calls = [(method, path, call) for path, methods in schema["paths"].items() for method, call in methods.items()]
    assert page.count('class="api-call"') == len(calls)
    for method, path, call in calls:
        assert f'<span class="badge">{method.upper()}</span> <code>{path}</code>' in page
        assert f'id="{call["operationId"]}"' in page


def test_strangers_are_asked_to_sign_in(client):
    assert client.get("/api/").status_code == 302
    assert client.get("/api/schema/").status_code == 401


def test_an_address_under_api_that_is_none_is_a_sentence(client):
    for path in ("/api/v1/assignment", "/api/v2/", "/api/v1/assignments"):
        response = client.post(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
