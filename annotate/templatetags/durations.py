"""Seconds and JSON as people read them: `{{ 754|duration }}`, `{{ config|as_json }}`."""

import json

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy, npgettext_lazy

register = template.Library()

# What `timesince` and `naturaltime` say, marked here for our catalogue alone, which goes before Django's own: in its
# Chinese “3 月” is March, and “3 日” the third.
AGO = (
    ngettext_lazy("%(num)d month", "%(num)d months", "num"),
    ngettext_lazy("%(num)d day", "%(num)d days", "num"),
    npgettext_lazy("naturaltime-past", "%(num)d month", "%(num)d months", "num"),
    npgettext_lazy("naturaltime-past", "%(num)d day", "%(num)d days", "num"),
    ngettext_lazy("an hour ago", "%(count)s hours ago", "count"),
    ngettext_lazy("a minute ago", "%(count)s minutes ago", "count"),
    ngettext_lazy("a second ago", "%(count)s seconds ago", "count"),
)


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
