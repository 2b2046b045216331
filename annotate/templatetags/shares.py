"""`{{ 0.634|percent }}`: 63 %. A share as people read it."""

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def percent(share: float | None) -> str:
    """Nothing measured is a dash."""
    if share is None:
        return "–"
    return (_("%(n)s %%") % {"n": number_format(round(100 * share))}).replace(" ", "\N{NO-BREAK SPACE}")
