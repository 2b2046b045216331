"""docker-compose.yml against the Compose Specification's own schema, and against what launch runs.

compose-spec.json is the schema of github.com/compose-spec/compose-spec (Apache-2.0).
"""

import json
import re
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
import yaml

from config.environment import PROJECT_ROOT, Environment, load_environment
from launch.programs import all_programs

NOT_OURS = {"POSTGRES_PASSWORD", "CPU_WORKERS"}


@pytest.fixture(scope="module")
def text():
    return (PROJECT_ROOT / "docker-compose.yml").read_text()


@pytest.fixture(scope="module")
def compose(text):
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def schema():
    return json.loads((Path(__file__).parent / "compose-spec.json").read_text())


def test_it_fits_the_compose_schema(compose, schema):
    jsonschema.Draft202012Validator(schema).validate(compose)


def test_it_would_notice_a_key_the_schema_does_not_know(compose, schema):
    broken = compose | {"services": {"web": {"imgae": "whetstone"}}}
    with pytest.raises(jsonschema.ValidationError, match="imgae"):
        jsonschema.Draft202012Validator(schema).validate(broken)


def test_it_runs_every_program_of_ours_as_launch_does(compose, tmp_path):
    names = {program.name for program in all_programs(load_environment({"DATA_DIR": str(tmp_path)}))}
    for name in names:
        assert compose["services"][name]["command"] == ["python", "-m", "launch", "program", name]
    rest = set(compose["services"]) - names
    assert rest == {"postgres", "valkey", "prepare", "worker-generate-gpu", "worker-train-gpu"}


def test_it_gives_the_gpu_to_generation_and_training_only(compose):
    with_gpu = {name for name, service in compose["services"].items() if service.get("profiles") == ["gpu"]}
    assert with_gpu == {"worker-generate-gpu", "worker-train-gpu"}
    for name in with_gpu:
        service = compose["services"][name]
        [device] = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert service["command"][-1] == name.removesuffix("-gpu")


def test_it_waits_for_whole_services_and_keeps_what_must_last(compose):
    for name in ("web", "beat", "worker-default", "worker-generate", "worker-train"):
        waits = {other: how["condition"] for other, how in compose["services"][name]["depends_on"].items()}
        assert waits["postgres"] == waits["valkey"] == "service_healthy"
        assert waits["prepare"] == "service_completed_successfully"
        assert compose["services"][name]["volumes"] == ["data:/data"]
    volumes = {volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]}
    assert volumes == set(compose["volumes"])
    for name in ("postgres", "valkey", "web", "worker-default"):
        assert compose["services"][name]["healthcheck"]["test"]


def test_it_hands_on_variables_that_exist_and_can_be_read(compose, text, tmp_path):
    known = {field.name.upper() for field in fields(Environment)}
    handed = compose["services"]["web"]["environment"]
    assert set(handed) <= known
    assert set(re.findall(r"\$\{(\w+)", text)) <= known | NOT_OURS
    assert all(
        f"${{{name}:-" in value for name, value in handed.items() if name not in ("DATABASE_URL", "CELERY_BROKER_URL")
    )

    as_given = {name: interpolated(value) for name, value in handed.items()}
    environment = load_environment(as_given | {"DATA_DIR": str(tmp_path)})
    assert environment.database["HOST"] == "postgres"
    assert environment.database["PASSWORD"] == "secret"
    assert environment.valkey_url == "redis://valkey:6379/0"
    assert environment.time_zone == "UTC"


def interpolated(value: str) -> str:
    """What Compose makes of `value` where only POSTGRES_PASSWORD is set."""
    value = re.sub(r"\$\{POSTGRES_PASSWORD:\?[^}]*\}", "secret", value)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_it_builds_an_image_that_does_not_run_as_root():
    lines = (PROJECT_ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER whetstone"]
    assert lines.index("COPY pyproject.toml requirements.lock ./") < lines.index("COPY . .")
