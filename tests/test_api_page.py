"""The schema as the API's page shows it: what is where, what it may be, and a command to try it."""

import pytest

from annotate.api_page import Field, Reply, calls_by_topic, errors_of, whole_schema

NAMED = {
    "Wish": {
        "type": "object",
        "description": "What one wants.",
        "required": ["order", "id"],
        "properties": {
            "id": {"type": "integer", "readOnly": True},
            "order": {"type": "array", "maxItems": 9, "items": {"$ref": "#/components/schemas/Place"}},
            "note": {"type": "string", "maxLength": 60, "default": "", "description": "For people."},
        },
    },
    "Place": {
        "type": "object",
        "required": ["rank"],
        "properties": {
            "rank": {"type": "integer", "minimum": 1, "maximum": 4, "nullable": True},
            "kind": {"allOf": [{"$ref": "#/components/schemas/Kind"}], "description": "Of its own."},
        },
    },
    "Kind": {"enum": ["good", "bad"], "type": "string"},
    "Error": {"type": "object", "required": ["code"], "properties": {"code": {"type": "string"}}},
}
BODY_OF_WISHES = {"application/json": {"schema": {"$ref": "#/components/schemas/Wish"}}}
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
KEY = {"name": "Key", "in": "header", "schema": {"type": "string"}, "required": True}


def schema_of(operation: dict, path: str = "/wishes/{id}/", method: str = "post") -> dict:
    whole = {"operationId": "wish", "summary": "Wish", "tags": ["wishes"], "responses": {}, **operation}
    return {"paths": {path: {method: whole}}, "components": {"schemas": NAMED}}


def call_of(operation: dict, **options):
    [(topic, [call])] = calls_by_topic(schema_of(operation, **options), "https://example.org")
    assert topic == "wishes"
    return call


def test_fields_are_named_by_where_they_lie_and_told_in_words():
    call = call_of({"requestBody": {"content": BODY_OF_WISHES}})
    assert call.media_types == ["application/json"]
    assert call.body == [
        Field("order", "list of object, at most 9", is_required=True),
        Field("order[].rank", "integer, 1 to 4, or null", is_required=True),
        Field("order[].kind", "one of good, bad", "Of its own."),
        Field("note", 'string, at most 60 characters, otherwise ""', "For people."),
    ]


def test_errors_stand_once_for_all_calls():
    schema = schema_of(
        {
            "responses": {
                "201": {"content": BODY_OF_WISHES, "description": "Kept."},
                "200": {"content": BODY_OF_WISHES, "description": "Kept."},
                "422": {"content": ERROR, "description": "No."},
                "400": {"content": ERROR, "description": "Wrong."},
            }
        }
    )
    [(_topic, [call])] = calls_by_topic(schema, "")
    [kept] = call.replies
    assert (kept.status, kept.description) == ("201, 200", "Kept.")
    assert [field.name for field in kept.fields] == ["id", "order", "order[].rank", "order[].kind", "note"]
    assert not any(field.is_required for field in kept.fields)
    assert call.errors == ["422", "400"]
    code = [Field("code", "string")]
    assert errors_of(schema) == [Reply("400", "Wrong.", code), Reply("422", "No.", code)]


def test_a_command_says_what_must_be_said():
    in_path = {"name": "id", "in": "path", "schema": {"type": "integer"}, "required": True}
    key = KEY | {"examples": {"one": {"value": "it's"}}}
    call = call_of({"parameters": [key, in_path], "requestBody": {"content": BODY_OF_WISHES}})
    assert call.curl.split(" \\\n  ") == [
        "curl -X POST",
        '-H "Authorization: Token $TOKEN"',
        "-H 'Key: it'\"'\"'s'",
        "-H 'Content-Type: application/json'",
        """-d '{"order": [{"rank": 7}]}'""",
        "https://example.org/wishes/7/",
    ]


def test_a_command_takes_the_example_that_the_call_gives_and_a_file_where_it_takes_one():
    given = {"application/json": {**BODY_OF_WISHES["application/json"], "examples": {"one": {"value": {"a": "é"}}}}}
    assert """-d '{"a": "é"}'""" in call_of({"requestBody": {"content": given}}).curl
    file = {"text/csv": {"schema": {"type": "string", "format": "binary"}}}
    assert "--data-binary @file.csv" in call_of({"requestBody": {"content": file}}).curl
    assert call_of({}, method="get").curl.startswith("curl \\\n")


@pytest.mark.django_db
def test_of_the_real_schema_every_call_tells_what_it_answers():
    calls = [call for _topic, calls in calls_by_topic(whole_schema(), "http://localhost") for call in calls]
    assert len({call.id for call in calls}) == len(calls) > 40
    [answer] = [call for call in calls if call.path == "/api/v1/assignments/{id}/ranking/"]
    assert Field("ranks", "object of integer") in answer.body
    assert Field("token", "string, at most 64 characters", is_required=True) in answer.body
    assert '"ranks": {"31": 1, "29": 2}' in answer.curl
    assert "Idempotency-Key: 4f1c" in answer.curl
