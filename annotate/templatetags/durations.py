"""Seconds and JSON as people read them: `{{ 754|duration }}`, `{{ config|as_json }}`."""

import json

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

register = template.Library()


@register.filter
def duration(seconds: float) -> str:
    """Rounded to what matters: seconds below one and a half minutes, then minutes, then hours and minutes."""
    seconds = max(0, round(seconds))
    if seconds < 90:
        return ngettext("%(n)d second", "%(n)d seconds", seconds) % {"n": seconds}
    minutes = round(seconds / 60)
    if minutes < 90:
        return ngettext("%(n)d minute", "%(n)d minutes", minutes) % {"n": minutes}
    return _("%(hours)d h %(minutes)02d min") % {"hours": minutes // 60, "minutes": minutes % 60}


@register.filter
def as_json(value) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def as_cell(value) -> str:
    """A text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
