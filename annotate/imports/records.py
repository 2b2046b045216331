"""One row of a file, checked and turned into a prompt. Every refusal is a sentence that names the field.

A row has `messages` (a list of {role, content}) or `prompt` (a text, or such a list, as TRL's data sets have it), and
may have `language`, `tags` (a list, or a text with commas or semicolons) and `source_id` (or `id`).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

ROLES = ("system", "user", "assistant")
FIELDS = ("messages", "prompt", "language", "tags", "source_id", "id")
LONGEST_CONVERSATION = 50_000  # characters, all messages together
MOST_MESSAGES = 100
MOST_TAGS = 20
LONGEST_TAG = 40
LONGEST_SOURCE_ID = 200
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", re.IGNORECASE | re.ASCII)
LONGEST_LANGUAGE = 12


class BadRecord(ValueError):
    """This row is not a prompt; the message says why, in a sentence."""


@dataclass(frozen=True)
class PromptRecord:
    """A conversation that waits for its next message. `language` is None where the row names none."""

    messages: list[dict[str, str]]
    language: str | None
    tags: list[str]
    source_id: str


def prompt_record(row: Mapping[str, Any]) -> PromptRecord:
    """Check one row. Raises BadRecord."""
    given = {name: value for name, value in row.items() if name in FIELDS and value not in (None, "", [])}
    if ("messages" in given) == ("prompt" in given):
        raise BadRecord(_("There must be either “messages” or “prompt”."))
    return PromptRecord(
        messages=conversation(given.get("messages", given.get("prompt"))),
        language=language(given.get("language")),
        tags=tags(given.get("tags", [])),
        source_id=source_id(given.get("source_id", given.get("id", ""))),
    )


def conversation(value: Any) -> list[dict[str, str]]:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        value = listed(value)
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise BadRecord(_("“messages” must be a list of {role, content}."))
    if len(value) > MOST_MESSAGES:
        raise BadRecord(_("A conversation has at most %(most)d messages.") % {"most": MOST_MESSAGES})
    messages = [message(each, number) for number, each in enumerate(value, start=1)]
    if messages[-1]["role"] != "user":
        raise BadRecord(_("The last message must be the user's: the model writes the next one."))
    if any(each["role"] == "system" for each in messages[1:]):
        raise BadRecord(_("Only the first message may be the system's."))
    if sum(len(each["content"]) for each in messages) > LONGEST_CONVERSATION:
        raise BadRecord(_("A conversation has at most %(most)d characters.") % {"most": LONGEST_CONVERSATION})
    return messages


def listed(value: str) -> Any:
    """A CSV cell may hold the messages as JSON. A text that only looks like it stays a text."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def message(value: Any, number: int) -> dict[str, str]:
    where = {"number": number}
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise BadRecord(_("Message %(number)d must be {role, content} with a text.") % where)
    if value.get("role") not in ROLES:
        raise BadRecord(_("The role of message %(number)d must be system, user or assistant.") % where)
    if not value["content"].strip():
        raise BadRecord(_("Message %(number)d is empty.") % where)
    return {"role": value["role"], "content": storable(value["content"])}


def language(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value.strip()) > LONGEST_LANGUAGE or not LANGUAGE.fullmatch(value.strip()):
        raise BadRecord(_("“language” must be a code like en or zh-hans."))
    return value.strip().lower()


def tags(value: Any) -> list[str]:
    if isinstance(value, str):
        value = re.split("[,;，；]", value)
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise BadRecord(_("“tags” must be a list of words."))
    found = list(dict.fromkeys(storable(tag.strip()) for tag in value if tag.strip()))
    if len(found) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in found):
        raise BadRecord(
            _("There may be %(most)d tags of %(longest)d characters each.")
            % {"most": MOST_TAGS, "longest": LONGEST_TAG}
        )
    return found


def source_id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadRecord(_("“source_id” must be a text or a number."))
    found = storable(str(value).strip())
    if len(found) > LONGEST_SOURCE_ID:
        raise BadRecord(_("“source_id” has at most %(most)d characters.") % {"most": LONGEST_SOURCE_ID})
    return found


def storable(text: str) -> str:
    """PostgreSQL stores neither NUL nor half a surrogate pair; the latter also stands for bytes that are no UTF-8."""
    if "\0" in text:
        raise BadRecord(_("There is a NUL character in it."))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRecord(_("There is something in it that is no UTF-8 text.")) from None
    return text
