"""`{{ 0.634|percent }}`: 63 %. A share as people read it."""

from django import template
from django.utils.formats import number_format

register = template.Library()


@register.filter
def percent(share: float | None) -> str:
    """Nothing measured is a dash."""
    return "–" if share is None else f"{number_format(100 * share, 0)}\N{NO-BREAK SPACE}%"
