"""What is stored in English or as a code, in the reader's language: `{{ run.reason|in_readers_language }}`."""

from django import template

from annotate.labels import SPEAKERS
from annotate.stored_sentences import in_readers_language

register = template.Library()
register.filter("in_readers_language", in_readers_language)


@register.filter
def speaker(role: str) -> str:
    """Who a message of a conversation is from."""
    return SPEAKERS.get(role, role)
