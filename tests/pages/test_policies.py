"""Policies: made, and told when and how to learn again."""

import pytest
from django.urls import reverse

from annotate.models import AuditEvent, Policy


def test_it_makes_a_policy_whose_base_serves(maria):
    maria.post(reverse("policy_new"), {"name": "poems", "base_model": "org/model-1b", "retrain_after": 50})
    made = Policy.objects.get(name="poems")
    assert (made.base_model, made.retrain_after, made.gate, made.recipe) == ("org/model-1b", 50, {}, {})
    assert (made.serving.number, made.serving.parent) == (0, None)
    assert AuditEvent.objects.filter(action="make.policy").exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "two words", "slug"),
        ("base_model", "/nowhere", "no config.json"),
        ("retrain_after", "-1", "greater than or equal to 0"),
        ("recipe", "{", "This is not JSON"),
        ("recipe", "[]", "must be an object"),
        ("recipe", '{"ppo": {"updats": 3}}', "ppo.updats: unknown key"),
        ("recipe", '{"ppo": {"updates": "many"}}', "ppo.updates: must be a whole number"),
        ("recipe", '{"lora": {"dropout": NaN}}', "NaN is no number"),
        ("recipe", '{"seed": 7}', "is not the recipe’s to say"),
        ("min_win_rate", "55", "less than or equal to 1"),
    ],
)
def test_it_says_at_the_field_what_is_wrong(maria, field, value, sentence):
    data = {"name": "poems", "base_model": "org/model", "retrain_after": 50, field: value}
    response = maria.post(reverse("policy_new"), data)
    assert sentence in " ".join(response.context["form"].errors[field])
    assert not Policy.objects.exists()


def test_it_takes_a_folder_that_has_a_model(maria, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    maria.post(reverse("policy_new"), {"name": "poems", "base_model": str(tmp_path), "retrain_after": 50})
    assert Policy.objects.get().base_model == str(tmp_path)


def test_it_lets_only_a_superuser_trust_a_models_code(cast, maria, signed_in):
    data = {"name": "poems", "base_model": "org/model", "retrain_after": 50, "trust_remote_code": "on"}
    maria.post(reverse("policy_new"), data)
    signed_in(cast["sue"]).post(reverse("policy_new"), data | {"name": "prose"})
    trusted = dict(Policy.objects.values_list("name", "trust_remote_code"))
    assert trusted == {"poems": False, "prose": True}


def test_it_changes_when_how_and_what_must_be_shown(maria, policy):
    data = {"retrain_after": 0, "recipe": '{"ppo": {"updates": 30}}', "max_kl": "9", "min_win_rate": ""}
    maria.post(reverse("policy_edit", args=[policy.pk]), data)
    policy.refresh_from_db()
    assert (policy.retrain_after, policy.recipe, policy.gate) == (0, {"ppo": {"updates": 30}}, {"max_kl": 9.0})
    assert AuditEvent.objects.get(action="change.policy").detail["gate"] == [{}, {"max_kl": 9.0}]
    page = maria.get(reverse("policy_edit", args=[policy.pk]))
    assert "&quot;updates&quot;: 30" in page.text
    assert "Empty: 0.55." in page.text


def test_it_leaves_the_base_model_alone(maria, policy):
    maria.post(reverse("policy_edit", args=[policy.pk]), {"retrain_after": 5, "base_model": "org/other", "name": "x"})
    policy.refresh_from_db()
    assert (policy.name, policy.base_model, policy.retrain_after) == ("tiny", "/nowhere", 5)
