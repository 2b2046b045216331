"""Words for the codes that answers and conversations hold: flags, axes, reasons, speakers.

A pool's own words are their own label.
"""

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

SPEAKERS = {
    "system": _("Instruction"),
    "user": pgettext_lazy("who wrote a message", "Person"),
    "assistant": _("Assistant"),
}

FLAGS = {
    "unsafe": _("unsafe"),
    "untrue": _("untrue"),
    "repeats": _("repeats itself"),
    "wrong_language": _("wrong language"),
    "names_its_model": _("names its model"),
    "off_topic": _("off the subject"),
    "personal_data": _("personal data"),
}
AXES = {
    "helpful": _("helpful"),
    "honest": _("honest"),
    "harmless": _("harmless"),
    "fluent": _("fluent"),
    "relevant": _("to the point"),
    "concise": _("concise"),
    "kind": _("kind"),
}
CHIPS = {
    "more_helpful": _("more helpful"),
    "more_accurate": _("more accurate"),
    "clearer": _("clearer"),
    "safer": _("safer"),
    "better_tone": _("better tone"),
    "better_length": _("better length"),
}
VERDICTS = {  # of a pair, by code, as its four buttons stand: the arrow that is its usual key, and what it says
    "first": ("←", _("A is better")),
    "tie": ("↓", _("Equally good")),
    "bad": ("↑", _("Both bad")),
    "second": ("→", _("B is better")),
}
STRENGTHS = {
    2: [_("slightly better"), _("much better")],
    3: [_("slightly better"), _("better"), _("much better")],
    4: [_("hardly better"), _("slightly better"), _("better"), _("much better")],
}
SKIP_REASONS = {
    "language": _("I do not read this language well enough"),
    "knowledge": _("I would have to look it up"),
    "upsetting": _("It upsets me"),
    "too_long": _("It is too long to judge with care"),
    "other": _("Another reason"),
}
NOT_RANKABLE_REASONS = {
    "no_sense": _("The prompt makes no sense"),
    "identical": _("The completions are the same"),
    "broken": _("The text is broken or cannot be read"),
    "unsafe": _("It should not be shown to anybody"),
    "other": _("Another reason"),
}


def labelled(codes: list[str], labels: dict) -> list[tuple[str, str]]:
    """(code, label) of each code, once, in the language of whoever reads now."""
    return [(code, str(labels.get(code, str(code).replace("_", " ")))) for code in dict.fromkeys(codes)]
