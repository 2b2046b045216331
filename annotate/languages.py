"""Languages of texts beside that of the page: whoever reads the page in one is lent texts in any that a pool has."""

from collections.abc import Iterable

from django.utils.translation import get_language, get_language_info

from annotate.models import PromptPool


def foreign_languages(pools: Iterable[PromptPool]) -> list[str]:
    """The tags of the pools' languages, where none of the pools is in the language of the page."""
    tags = sorted({pool.language for pool in pools})
    own = spoken(get_language() or "")
    return [] if any(spoken(tag) == own for tag in tags) else tags


def spoken(tag: str) -> str:
    """The language without its country or script: whoever reads one of them can judge a text in the others."""
    return tag.lower().split("-")[0]


def language_name(tag: str) -> str:
    """In the reader's language; a tag that Django has no name for stays as it is."""
    try:
        return str(get_language_info(tag.lower())["name_translated"])
    except KeyError:
        return tag
