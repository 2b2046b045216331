"""`{{ tags|language_names }}`: languages by their names, in the reader's own: "English, French"."""

from collections.abc import Iterable

from django import template
from django.utils.translation import pgettext

from annotate.languages import language_name

register = template.Library()


@register.filter
def language_names(tags: Iterable[str]) -> str:
    return pgettext("in a list", ", ").join(map(language_name, tags))


register.filter("language_name", language_name)
