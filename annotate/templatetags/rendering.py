"""`{{ text|rendered }}`: Markdown, code and LaTeX as safe HTML, on any page (`annotate.rendering`)."""

from django import template

from annotate.rendering import rendered

register = template.Library()
register.filter("rendered", rendered)
