"""What every request body must be: text that can be stored, and no field that nobody knows."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

LARGEST_ID = 2**63 - 1


class StorableJSONParser(JSONParser):
    """JSON whose every text PostgreSQL can store. Raises ParseError, a 400 with a sentence."""

    def parse(self, stream, media_type=None, parser_context=None) -> Any:
        try:
            found = super().parse(stream, media_type=media_type, parser_context=parser_context)
            is_storable = has_storable_text(found)
        except RecursionError:
            raise ParseError(_("This JSON is nested too deep.")) from None
        if not is_storable:
            raise ParseError(_("There is a NUL character or half a surrogate pair in a text."))
        return found


def has_storable_text(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, Mapping):
        return all(has_storable_text(key) and has_storable_text(item) for key, item in value.items())
    if isinstance(value, list):
        return all(has_storable_text(item) for item in value)
    return True


class RefusesUnknownFields:
    """A mixin for serializers: a field that is not declared is an error that names it."""

    def to_internal_value(self, data):
        if isinstance(data, Mapping):
            unknown = sorted(str(name) for name in set(data) - set(self.fields))
            if unknown:
                known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
                sentence = _("There is no such field. There are: %(known)s.") % {"known": known}
                raise serializers.ValidationError({name: [sentence] for name in unknown[:10]})
        return super().to_internal_value(data)


class StrictSerializer(RefusesUnknownFields, serializers.Serializer):
    pass


class StrictModelSerializer(RefusesUnknownFields, serializers.ModelSerializer):
    pass


class IdField(serializers.IntegerField):
    """A row's number."""

    def __init__(self, **kwargs):
        super().__init__(min_value=1, max_value=LARGEST_ID, **kwargs)


class ByCompletionField(serializers.DictField):
    """An object by completion id. Its keys are ids as JSON has them, texts, and come out as whole numbers."""

    default_error_messages = {"not_an_id": _("“{name}” is not the id of a completion.")}

    def to_internal_value(self, data):
        return {self.completion_id(key): value for key, value in super().to_internal_value(data).items()}

    def completion_id(self, key: str) -> int:
        if not (key.isascii() and key.isdigit() and len(key) < 19 and str(int(key)) == key):
            self.fail("not_an_id", name=key[:40])
        return int(key)
