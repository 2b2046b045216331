"""What managers type: each field checked, each mistake named at its field."""

import json
from io import BytesIO
from typing import BinaryIO

from django import forms
from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _

from annotate.models import Comparison, Policy, PreferenceSnapshot, Prompt, PromptPool, User
from annotate.roles import MAY_ANNOTATE, Role
from annotate.services.imports import format_of
from annotate.stored_sentences import in_readers_language

LANGUAGE_TAG = RegexValidator(
    r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", _("Write a language tag, such as en, fr, or zh-hans.")
)
MOST_WORDS = 20
LONGEST_WORD = 40


class LinesField(forms.CharField):
    """A list of short names, one a line. Doubles and empty lines are left out."""

    def __init__(self, **kwargs):
        super().__init__(widget=forms.Textarea(attrs={"rows": 4}), required=False, **kwargs)

    def prepare_value(self, value):
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value) -> list[str]:
        lines = (line.strip() for line in (super().to_python(value) or "").splitlines())
        return list(dict.fromkeys(line for line in lines if line))

    def validate(self, value: list[str]) -> None:
        super().validate(value)
        if len(value) > MOST_WORDS:
            raise forms.ValidationError(_("At most %(most)s lines."), params={"most": MOST_WORDS})
        for line in value:
            if len(line) > LONGEST_WORD:
                raise forms.ValidationError(
                    _("“%(line)s” is too long: at most %(most)s characters a line."),
                    params={"line": line, "most": LONGEST_WORD},
                )

    def has_changed(self, initial, data) -> bool:
        return self.to_python(data) != (initial or [])


class Plain:
    """Labels without a colon."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"label_suffix": "", **kwargs})


class PoolForm(Plain, forms.ModelForm):
    """Every setting of a pool, in groups. The sampling settings are one JSON value in the model, three fields here."""

    temperature = forms.FloatField(
        label=_("Temperature"), min_value=0.0, max_value=2.0, help_text=_("0 to 2; 1 samples from the model as it is.")
    )
    top_p = forms.FloatField(
        label=_("Top-p"), min_value=0.01, max_value=1.0, help_text=_("Keeps the likeliest tokens; 1 keeps all.")
    )
    max_new_tokens = forms.IntegerField(
        label=_("Longest completion, in tokens"), min_value=1, max_value=2048, help_text=_("1 to 2048.")
    )
    axes = LinesField(
        label=_("Axes"), help_text=_("One a line, such as helpful, honest, harmless. Each is rated from 1 to 5.")
    )
    flags = LinesField(label=_("Flags"), help_text=_("One a line. An annotator can put them on any completion."))
    rationale_chips = LinesField(
        label=_("Reasons to choose from"), help_text=_("One a line: short reasons that are given with one click.")
    )

    SAMPLING = ("temperature", "top_p", "max_new_tokens")
    GROUPS = (
        (_("What it is"), ("name", "description", "policy", "language")),
        (_("Comparisons"), ("k", "overlap", "buffer_size", "lease_minutes", "incumbent_share")),
        (_("Sampling"), SAMPLING),
        (_("How they are ranked"), ("ties_allowed", "strength_scale")),
        (
            _("What else annotators may say"),
            ("axes", "flags", "rationale_chips", "asks_rationale", "asks_spans", "asks_better_answer"),
        ),
        (_("Quality"), ("gold_share", "training_count", "training_pass_share")),
        (_("Who"), ("members_only",)),
    )

    class Meta:
        model = PromptPool
        fields = (
            "name",
            "description",
            "policy",
            "language",
            "k",
            "overlap",
            "buffer_size",
            "lease_minutes",
            "incumbent_share",
            "ties_allowed",
            "strength_scale",
            "axes",
            "flags",
            "rationale_chips",
            "asks_rationale",
            "asks_spans",
            "asks_better_answer",
            "gold_share",
            "training_count",
            "training_pass_share",
            "members_only",
        )
        labels = {
            "name": _("Name"),
            "description": _("Description"),
            "policy": _("Policy"),
            "language": _("Language"),
            "lease_minutes": _("Minutes a comparison is lent for"),
            "incumbent_share": _("Share of completions by the incumbent"),
            "ties_allowed": _("Ties are allowed"),
            "strength_scale": _("Steps of “how much better”"),
            "asks_rationale": _("Ask for a reason in free text"),
            "asks_spans": _("Let annotators mark passages"),
            "asks_better_answer": _("Ask for a better answer, written by hand"),
            "gold_share": _("Share of gold comparisons"),
            "training_count": _("Training comparisons"),
            "training_pass_share": _("Share of training answers that must be right"),
            "members_only": _("Only members may annotate here"),
        }
        help_texts = {
            "description": _("People who are invited read it, if the pool is open to all."),
            "policy": _("Whose completions are ranked here, and who learns from the rankings."),
            "language": _("A language tag, such as en or zh-hans: how prompts and completions are marked."),
            "k": _("2 to 9. A changed number holds for comparisons made from now on."),
            "overlap": _("How many people rank the same comparison, 1 to 20. Two or more measure agreement."),
            "buffer_size": _("Comparisons written ahead, so that nobody waits for the model."),
            "lease_minutes": _("After that somebody else may get it."),
            "gold_share": _("0 to 0.5. Gold comparisons have a known answer and look like any other."),
            "training_pass_share": _("0 to 1."),
        }
        widgets = {"description": forms.Textarea(attrs={"rows": 2})}
        error_messages = {"name": {"unique": _("There is a pool of this name already.")}}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["language"].validators.append(LANGUAGE_TAG)
        for name in ("buffer_size", "lease_minutes"):
            self.fields[name].min_value = 1
        for name in self.SAMPLING:
            self.fields[name].initial = self.instance.sampling.get(name)
        for name in ("temperature", "top_p", "incumbent_share", "gold_share", "training_pass_share"):
            self.fields[name].widget.attrs["step"] = "any"

    def clean_strength_scale(self) -> int:
        steps = self.cleaned_data["strength_scale"]
        if steps == 1:
            raise forms.ValidationError(_("One step says nothing. Write 0 not to ask, or 2 to 4."))
        return steps

    def clean_buffer_size(self) -> int:
        size = self.cleaned_data["buffer_size"]
        if size < 1:
            raise forms.ValidationError(_("Keep at least one comparison ready."))
        return size

    def groups(self):
        """Each group as its title and its bound fields, in the order of the page."""
        return [(title, [self[name] for name in names]) for title, names in self.GROUPS]

    def values(self) -> dict:
        """What `annotate.services.pools` takes."""
        values = {name: self.cleaned_data[name] for name in self.Meta.fields}
        values["sampling"] = self.instance.sampling | {name: self.cleaned_data[name] for name in self.SAMPLING}
        return values


class NewPoolForm(PoolForm):
    guidelines = forms.CharField(
        label=_("Guidelines"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text=_("What annotators should look for, in the pool's language. Markdown."),
    )
    GROUPS = (*PoolForm.GROUPS, (_("Guidelines"), ("guidelines",)))


class GuidelinesForm(Plain, forms.Form):
    text = forms.CharField(
        label=_("Text"), max_length=50_000, widget=forms.Textarea(attrs={"rows": 24}), help_text=_("Markdown.")
    )


class PauseForm(Plain, forms.Form):
    reason = forms.CharField(
        label=_("Why?"), max_length=500, help_text=_("One sentence. Annotators and other managers read it.")
    )


class MemberForm(Plain, forms.Form):
    person = forms.ModelChoiceField(label=_("Person"), queryset=User.objects.none(), empty_label=_("Choose somebody"))

    def __init__(self, *args, pool: PromptPool, **kwargs):
        super().__init__(*args, **kwargs)
        people = User.objects.filter(is_active=True, groups__name__in=MAY_ANNOTATE)
        self.fields["person"].queryset = people.exclude(memberships__pool=pool).order_by("email").distinct()


class PromptSearchForm(Plain, forms.Form):
    q = forms.CharField(label=_("Words"), required=False, max_length=200, widget=forms.SearchInput)
    tag = forms.ChoiceField(label=_("Tag"), required=False)
    state = forms.ChoiceField(
        label=_("State"),
        required=False,
        choices=[("", _("in use")), ("retired", _("retired")), ("all", _("all"))],
    )

    def __init__(self, *args, tags: list[str], **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["tag"].choices = [("", _("any")), *((tag, tag) for tag in tags)]

    def prompts(self, pool: PromptPool):
        """The pool's prompts that fit; a wrong choice filters nothing."""
        wanted = self.cleaned_data if self.is_valid() else {}
        prompts = Prompt.objects.filter(pool=pool)
        if wanted.get("q"):
            prompts = prompts.filter(messages__icontains=wanted["q"])
        if wanted.get("tag"):
            prompts = prompts.filter(tags__contains=[wanted["tag"]])
        if wanted.get("state") != "all":
            prompts = prompts.filter(retired_at__isnull=wanted.get("state") != "retired")
        return prompts


class ImportForm(Plain, forms.Form):
    """A file, or text pasted into the page; exactly one of them."""

    FORMATS = [("", _("by the file's name")), ("jsonl", "JSONL"), ("csv", "CSV"), ("parquet", "Parquet")]
    PASTED = [("lines", _("one prompt a line")), ("jsonl", "JSONL")]

    file = forms.FileField(label=_("File"), required=False, help_text=_("JSONL, CSV or Parquet."))
    format = forms.ChoiceField(label=_("Format"), required=False, choices=FORMATS)
    pasted = forms.CharField(
        label=_("Or paste prompts here"), required=False, widget=forms.Textarea(attrs={"rows": 8}), strip=False
    )
    pasted_format = forms.ChoiceField(label=_("What is pasted"), required=False, choices=PASTED)

    def clean(self):
        values = super().clean()
        has_file, has_text = bool(values.get("file")), bool((values.get("pasted") or "").strip())
        if has_file and has_text:
            self.add_error("pasted", _("Choose a file or paste text, not both."))
        elif not has_file and not has_text and "file" not in self.errors:
            self.add_error("file", _("Choose a file, or paste prompts below."))
        if has_file and not values.get("format"):
            values["format"] = format_of(values["file"].name)
            if values["format"] is None:
                self.add_error("format", _("The file's name does not say what it is. Choose a format."))
        return values

    def source(self) -> tuple[BinaryIO, str]:
        """What to import, as a file and its format. Pasted lines keep their numbers: a report can name them."""
        values = self.cleaned_data
        if values["file"]:
            return values["file"], values["format"]
        lines = values["pasted"].splitlines()
        if values["pasted_format"] != "jsonl":
            lines = [json.dumps({"prompt": line.strip()}) if line.strip() else "" for line in lines]
        return BytesIO("\n".join(lines).encode(errors="surrogatepass")), "jsonl"


class GoldForm(Plain, forms.Form):
    """The right order of one comparison: a rank for every completion, whether it is gold or training, and why."""

    kind = forms.ChoiceField(
        label=_("Use it as"),
        choices=[
            (Comparison.Kind.GOLD, _("gold: hidden among the others, measures how well annotators do")),
            (Comparison.Kind.TRAINING, _("training: shown to new annotators, with the right answer afterwards")),
        ],
        widget=forms.RadioSelect,
        initial=Comparison.Kind.GOLD,
    )
    explanation = forms.CharField(
        label=_("Why is this order right?"),
        max_length=5000,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("New annotators read it after their training answer."),
    )

    def __init__(self, *args, completions, suggested: dict[str, int], **kwargs):
        super().__init__(*args, **kwargs)
        self.completions = list(completions)
        for number, completion in enumerate(self.completions, start=1):
            self.fields[f"rank_{completion.pk}"] = forms.IntegerField(
                label=_("Rank of completion %(number)s") % {"number": number},
                min_value=1,
                max_value=len(self.completions),
                initial=suggested.get(str(completion.pk)),
            )

    def with_texts(self):
        return [(completion, self[f"rank_{completion.pk}"]) for completion in self.completions]

    def ranks(self) -> dict[int, int]:
        return {completion.pk: self.cleaned_data[f"rank_{completion.pk}"] for completion in self.completions}

    def clean(self):
        values = super().clean()
        ranks = [values.get(f"rank_{completion.pk}") for completion in self.completions]
        if None not in ranks and len(set(ranks)) == 1:
            raise forms.ValidationError(_("Everything has the same rank: nobody's order could be wrong. Order them."))
        return values


class InvitationForm(Plain, forms.Form):
    # As long as a user name may be: the address becomes one.
    email = forms.EmailField(
        label=_("E-mail address"), max_length=150, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices)


class RoleForm(Plain, forms.Form):
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices)


class SnapshotChoiceField(forms.ModelChoiceField):
    def label_from_instance(self, snapshot: PreferenceSnapshot) -> str:
        return in_readers_language(str(snapshot))


class ExportForm(Plain, forms.Form):
    """What to export: the form of the file, and which rankings. The filters are named as the API names them."""

    FORMATS = [
        ("trl", _("TRL, standard: prompt, chosen, rejected")),
        ("trl-conversational", _("TRL, conversational: as messages")),
        ("hh", _("HH: two whole transcripts")),
        ("moss", _("MOSS: two lists of texts")),
        ("rankings", _("Rankings: ties, flags and times too")),
        ("demonstrations", _("Demonstrations: the better answers people wrote")),
    ]
    FILES = [("jsonl", "JSONL"), ("parquet", "Parquet"), ("json", _("JSON, one array"))]
    FIRST = {"format": "trl", "file": "jsonl"}
    SPLITS = [("", _("both")), ("train", _("train")), ("held_out", _("held out"))]

    format = forms.ChoiceField(label=_("Format"), choices=FORMATS, required=False)
    file = forms.ChoiceField(label=_("File"), choices=FILES, required=False)
    policy = forms.ModelChoiceField(label=_("Policy"), queryset=Policy.objects, required=False, empty_label=_("any"))
    pool = forms.ModelChoiceField(label=_("Pool"), queryset=PromptPool.objects, required=False, empty_label=_("any"))
    snapshot = SnapshotChoiceField(
        label=_("Snapshot"), queryset=PreferenceSnapshot.objects, required=False, empty_label=_("newest answers")
    )
    split = forms.ChoiceField(label=_("Split"), choices=SPLITS, required=False)
    language = forms.CharField(label=_("Language"), required=False, max_length=12, validators=[LANGUAGE_TAG])
    tag = forms.CharField(label=_("Tag"), required=False, max_length=40)
    min_strength = forms.IntegerField(
        label=_("Least strength"), required=False, min_value=1, max_value=4, help_text=_("How much better, 1 to 4.")
    )
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(
        label=_("Until, not included"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    def clean(self):
        values = super().clean()
        since, until = values.get("since"), values.get("until")
        if since and until and since >= until:
            self.add_error("until", _("This day must come after the first one."))
        return values

    def chosen(self, name: str) -> str:
        """The format or the file type, its first choice where nothing was chosen."""
        return (self.cleaned_data.get(name) if self.is_bound else "") or self.FIRST[name]

    def filters(self) -> dict[str, str]:
        """What was filled in, as texts: a query string, or values for PreferenceFilters."""
        if not self.is_bound:
            return {}
        names = [name for name in self.fields if name not in self.FIRST]
        given = {name: self.cleaned_data[name] for name in names if self.cleaned_data[name] not in (None, "")}
        return {name: str(getattr(value, "pk", value)) for name, value in given.items()}


class SnapshotForm(Plain, forms.Form):
    policy = forms.ModelChoiceField(label=_("Policy"), queryset=Policy.objects, empty_label=None)
    note = forms.CharField(
        label=_("Note"), required=False, max_length=500, help_text=_("What it is for; others read it in the list.")
    )
