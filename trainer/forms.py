"""What managers say about a policy: when it learns again, with which recipe, and what a candidate must show."""

import json
from pathlib import Path

from django import forms
from django.utils.translation import gettext_lazy as _

from annotate.forms import Plain
from annotate.models import Policy
from annotate.stored_sentences import in_readers_language
from trainer.gate import DEFAULT_THRESHOLDS
from trainer.rlhf.config import ConfigError, RunConfig, parse

# The run itself says these.
NOT_OF_A_RECIPE = ("format", "seed", "base_model", "trust_remote_code", "parent")
SHARE = {"min_value": 0.0, "max_value": 1.0}
THRESHOLDS = {
    "min_win_rate": (_("Least win rate over its parent, by the run’s reward model"), SHARE),
    "min_judge_win_rate": (_("Least win rate by the independent judge"), SHARE),
    "min_reward_accuracy": (_("Least held-out accuracy of the reward model"), SHARE),
    "max_kl": (_("Most KL to the base, in nats a completion"), {"min_value": 0.0}),
    "min_length_ratio": (_("Least length, over its parent’s"), {"min_value": 0.0}),
    "max_length_ratio": (_("Most length, over its parent’s"), {"min_value": 0.0}),
    "max_repetition_gain": (_("Most repetition beyond its parent’s"), {"min_value": 0.0}),
}


def no_constant(name: str):
    raise ValueError(f"{name} is no number")


class RecipeField(forms.CharField):
    """JSON: what differs from the trainer's defaults. Read as strictly as the trainer reads it."""

    def __init__(self, **kwargs):
        super().__init__(
            required=False, widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false"}), max_length=20_000, **kwargs
        )

    def prepare_value(self, value):
        return json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value

    def to_python(self, value) -> dict:
        try:
            recipe = json.loads(super().to_python(value) or "{}", parse_constant=no_constant)
            if isinstance(recipe, dict) and (taken := [name for name in NOT_OF_A_RECIPE if name in recipe]):
                raise forms.ValidationError(_("“%(name)s” is not the recipe’s to say."), params={"name": taken[0]})
            parse(RunConfig, recipe | {"base_model": "-"} if isinstance(recipe, dict) else recipe)
        except ConfigError as error:
            raise forms.ValidationError(in_readers_language(str(error))) from error
        except (ValueError, RecursionError) as error:
            reason = in_readers_language(str(error))
            raise forms.ValidationError(_("This is not JSON: %(reason)s."), params={"reason": reason}) from error
        return recipe

    def validate(self, value) -> None:
        """`to_python` has said everything."""

    def run_validators(self, value) -> None:
        super().run_validators(json.dumps(value))


class PolicyForm(Plain, forms.ModelForm):
    recipe = RecipeField(
        label=_("Recipe"),
        help_text=_('JSON: what differs from the trainer’s defaults, such as {"ppo": {"updates": 30}}.'),
    )

    class Meta:
        model = Policy
        fields = ("retrain_after", "recipe")
        labels = {"retrain_after": _("New rankings that start a run")}
        help_texts = {"retrain_after": _("0: runs start by hand alone.")}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name, (label, limits) in THRESHOLDS.items():
            usual = DEFAULT_THRESHOLDS[name]
            self.fields[name] = forms.FloatField(
                label=label,
                required=False,
                initial=self.instance.gate.get(name),
                help_text=_("Empty: %(usual)s.") % {"usual": usual},
                widget=forms.NumberInput(attrs={"step": "any"}),
                **limits,
            )

    def groups(self):
        """Each group as its title and its bound fields, in the order of the page."""
        return [
            (_("Learning"), [self["retrain_after"], self["recipe"]]),
            (_("What a candidate must show before it may serve"), [self[name] for name in THRESHOLDS]),
        ]

    def values(self) -> dict:
        """What `annotate.services.policies` takes."""
        given = {name: self.cleaned_data[name] for name in THRESHOLDS}
        gate = {name: value for name, value in given.items() if value is not None}
        return {name: self.cleaned_data[name] for name in self.Meta.fields if name in self.fields} | {"gate": gate}


class NewPolicyForm(PolicyForm):
    """A superuser may also let the base model bring code of its own."""

    class Meta(PolicyForm.Meta):
        fields = ("name", "base_model", "trust_remote_code", "retrain_after", "recipe")
        labels = PolicyForm.Meta.labels | {
            "name": _("Name"),
            "base_model": _("Base model"),
            "trust_remote_code": _("Run code that comes with the model"),
        }
        help_texts = PolicyForm.Meta.help_texts | {
            "name": _("Letters, digits and hyphens. Its checkpoints are called name-0, name-1, …"),
            "base_model": _(
                "A Hugging Face id, or a folder on the machine of the workers. It cannot be changed later."
            ),
            "trust_remote_code": _("Only for models whose code you have read: it runs with all the workers’ rights."),
        }

        error_messages = {"name": {"unique": _("There is a policy of this name already.")}}

    def __init__(self, *args, user, **kwargs):
        super().__init__(*args, **kwargs)
        if not user.is_superuser:
            del self.fields["trust_remote_code"]

    def clean_base_model(self) -> str:
        name = self.cleaned_data["base_model"].strip()
        folder = Path(name).expanduser()
        if name.startswith(("/", "~", ".")) and not (folder / "config.json").is_file():
            raise forms.ValidationError(_("There is no model in this folder: it has no config.json."))
        return name

    def groups(self):
        named = [self[name] for name in ("name", "base_model", "trust_remote_code") if name in self.fields]
        return [(_("What it is"), named), *super().groups()]
