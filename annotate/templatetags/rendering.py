"""`{{ text|rendered }}`: Markdown, code and LaTeX as safe HTML, on any page (`annotate.rendering`).

`rendered` for what a model wrote, `prose` for what a colleague wrote.
"""

from django import template

from annotate.rendering import prose, rendered

register = template.Library()
register.filter("rendered", rendered)
register.filter("prose", prose)
