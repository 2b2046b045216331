"""The API's page: the OpenAPI schema, as people read it.

calls_by_topic(schema, site) -> [("assignments", [Call, …]), …]

What the schema says in English stays so. Nothing can be sent from the page: each call has a line for curl instead.
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.utils import translation
from drf_spectacular.generators import SchemaGenerator

Schema = dict[str, Any]
EXAMPLES = {"integer": 7, "number": 0.5, "boolean": True, "string": "text"}


@dataclass(frozen=True)
class Field:
    """`name` says where it lies: `prompt.messages[].role`."""

    name: str
    kind: str
    description: str = ""
    is_required: bool = False


@dataclass(frozen=True)
class Reply:
    status: str
    description: str
    fields: list[Field]


@dataclass(frozen=True)
class Call:
    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Field]
    media_types: list[str]
    body: list[Field]
    replies: list[Reply]
    errors: list[str]  # statuses
    curl: str


@cache
def whole_schema() -> Schema:
    """The schema of every call, whoever may make it. It changes with the code alone."""
    with translation.override("en"):
        return SchemaGenerator().get_schema(request=None, public=True)


def calls_by_topic(schema: Schema, site: str) -> list[tuple[str, list[Call]]]:
    """Every call of the schema under its tag, in the schema's order; `site` is where curl finds it."""
    topics = defaultdict(list)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            topics[operation["tags"][0]].append(Reader(schema).call(path, method.upper(), operation, site))
    return list(topics.items())


def errors_of(schema: Schema) -> list[Reply]:
    """What is answered where something is wrong, each status once."""
    reader = Reader(schema)
    operations = [operation for methods in schema["paths"].values() for operation in methods.values()]
    responses = [each for operation in operations for each in operation["responses"].items()]
    found = {status: reader.reply(status, response) for status, response in responses if reader.is_error(response)}
    return [found[status] for status in sorted(found)]


def merged(replies: list[Reply]) -> list[Reply]:
    """Those that say the same under another status as one."""
    statuses = defaultdict(list)
    for reply in replies:
        statuses[reply.description, tuple(reply.fields)].append(reply.status)
    return [Reply(", ".join(those), said, list(fields)) for (said, fields), those in statuses.items()]


@dataclass(frozen=True)
class Reader:
    """Reads parts of one schema, whose references it follows."""

    schema: Schema

    def call(self, path: str, method: str, operation: Schema, site: str) -> Call:
        bodies = operation.get("requestBody", {}).get("content", {})
        replies = operation["responses"].items()
        return Call(
            id=operation["operationId"],
            method=method,
            path=path,
            summary=operation["summary"],
            description=operation.get("description", ""),
            parameters=[self.parameter(each) for each in operation.get("parameters", [])],
            media_types=list(bodies),
            body=self.fields(bodies.get("application/json", {}).get("schema"), without="readOnly"),
            replies=merged([self.reply(*each) for each in replies if not self.is_error(each[1])]),
            errors=[status for status, response in replies if self.is_error(response)],
            curl=self.curl(path, method, operation, site),
        )

    def parameter(self, parameter: Schema) -> Field:
        kind = f"{parameter['in']}, {self.kind(parameter['schema'])}"
        return Field(parameter["name"], kind, parameter.get("description", ""), parameter.get("required", False))

    def reply(self, status: str, response: Schema) -> Reply:
        fields = self.fields(self.content(response), without="writeOnly")
        return Reply(status, response.get("description", ""), [replace(field, is_required=False) for field in fields])

    def fields(self, schema: Schema | None, without: str) -> list[Field]:
        """All but those marked as being `without`: what is only read is not sent, and the other way round."""
        return list(self.walk(self.resolved(schema), without, "")) if schema else []

    def walk(self, schema: Schema, without: str, prefix: str) -> Iterator[Field]:
        """The fields of an object, and under each those that lie within it; of a list, those of what it lists."""
        for name, given in schema.get("properties", {}).items():
            field = self.resolved(given)
            if field.get(without):
                continue
            is_required = name in schema.get("required", [])
            yield Field(prefix + name, self.kind(given), field.get("description", ""), is_required)
            within, marks = field, ""
            while within.get("type") == "array":
                within, marks = self.resolved(within["items"]), f"{marks}[]"
            yield from self.walk(within, without, f"{prefix}{name}{marks}.")

    def resolved(self, schema: Schema) -> Schema:
        """With what it refers to written into it. Of several forms the first, which says the most."""
        for reference in (schema, *schema.get("allOf", []), *schema.get("oneOf", [])[:1]):
            if "$ref" in reference:
                named = self.schema["components"]["schemas"][reference["$ref"].rsplit("/", 1)[-1]]
                return {**self.resolved(named), **schema}
        return schema

    def kind(self, schema: Schema) -> str:
        """In words: `list of integer`, `string, at most 60 characters`, `one of a, b`."""
        schema = self.resolved(schema)
        words = [self.kind_alone(schema)]
        least, most = schema.get("minimum"), schema.get("maximum")
        if most is not None and most >= 2**31 - 1:
            most = None  # of the column, and nobody's business
        if least is not None and most is not None:
            words.append(f"{least} to {most}")
        elif least is not None or most is not None:
            words.append(f"at least {least}" if most is None else f"at most {most}")
        if "maxLength" in schema:
            words.append(f"at most {schema['maxLength']} characters")
        if "maxItems" in schema:
            words.append(f"at most {schema['maxItems']}")
        if schema.get("nullable"):
            words.append("or null")
        if "default" in schema:
            words.append(f"otherwise {json.dumps(schema['default'], ensure_ascii=False)}")
        return ", ".join(words)

    def kind_alone(self, schema: Schema) -> str:
        if "enum" in schema:
            return "one of " + ", ".join(str(value) for value in schema["enum"])
        if schema.get("type") == "array":
            return f"list of {self.kind_alone(self.resolved(schema['items']))}"
        if isinstance(more := schema.get("additionalProperties"), dict) and more:
            return f"object of {self.kind_alone(self.resolved(more))}"
        kind = schema.get("type", "any")
        return schema.get("format", kind) if kind == "string" else kind

    def content(self, response: Schema) -> Schema | None:
        return next((content["schema"] for content in response.get("content", {}).values()), None)

    def is_error(self, response: Schema) -> bool:
        return (self.content(response) or {}).get("$ref", "").endswith("/Error")

    def curl(self, path: str, method: str, operation: Schema, site: str) -> str:
        """A command for a shell in which TOKEN is set, with an example of what has to be said."""
        parts = [f"curl -X {method}" if method != "GET" else "curl", '-H "Authorization: Token $TOKEN"']
        for parameter in operation.get("parameters", []):
            example = next(iter(parameter.get("examples", {}).values()), {}).get("value", 7)
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", str(example))
            elif parameter["in"] == "header":
                parts.append("-H " + shlex.quote(f"{parameter['name']}: {example}"))
        for media_type, body in list(operation.get("requestBody", {}).get("content", {}).items())[:1]:
            parts.append(f"-H 'Content-Type: {media_type}'")
            if media_type == "application/json":
                parts.append(f"-d {shlex.quote(json.dumps(self.example_of(body), ensure_ascii=False))}")
            else:
                parts.append(f"--data-binary @file.{media_type.rsplit('/', 1)[-1]}")
        return " \\\n  ".join([*parts, shlex.quote(site + path)])

    def example_of(self, body: Schema) -> Any:
        """The example that the call itself gives, or one of what its body must have."""
        for example in body.get("examples", {}).values():
            return example["value"]
        return self.example(body["schema"])

    def example(self, schema: Schema) -> Any:
        """What is required, and where nothing is, the first field."""
        schema = self.resolved(schema)
        kind = schema.get("type")
        if "enum" in schema:
            return schema["enum"][0]
        if kind == "array":
            return [self.example(schema["items"])]
        if kind == "object" and "properties" in schema:
            fields = {name: field for name, field in schema["properties"].items() if not field.get("readOnly")}
            said = [name for name in fields if name in schema.get("required", [])] or list(fields)[:1]
            return {name: self.example(fields[name]) for name in said}
        if kind == "object":
            return {str(EXAMPLES["integer"]): self.example(schema.get("additionalProperties") or {})}
        if schema.get("format") == "email":
            return "name@example.org"
        return EXAMPLES.get(str(kind), "text")
