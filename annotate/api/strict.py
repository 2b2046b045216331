"""What every request body must be: text that can be stored, and no field that nobody knows."""

import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

LARGEST_ID = 2**63 - 1
LARGEST_BODY = 2 * 2**20  # bytes; files of prompts have a parser of their own


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "too_large"
    default_detail = _("The body is larger than 2 MiB.")


class StorableJSONParser(JSONParser):
    """JSON whose every text PostgreSQL can store. Raises ParseError, a 400 with a sentence, or BodyTooLarge."""

    def parse(self, stream, media_type=None, parser_context=None) -> Any:
        body = stream.read(LARGEST_BODY + 1)
        if len(body) > LARGEST_BODY:
            raise BodyTooLarge
        try:
            found = super().parse(BytesIO(body), media_type=media_type, parser_context=parser_context)
            is_storable = has_storable_text(found)
        except RecursionError:
            raise ParseError(_("This JSON is nested too deep.")) from None
        if not is_storable:
            raise ParseError(_("There is a NUL character or half a surrogate pair in a text."))
        return found


def has_storable_text(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return "\0" not in value
    if isinstance(value, Mapping):
        return all(has_storable_text(key) and has_storable_text(item) for key, item in value.items())
    if isinstance(value, list):
        return all(has_storable_text(item) for item in value)
    return True


class RefusesUnknownFields:
    """A mixin for serializers: a field that nobody may write is an error that names it."""

    def to_internal_value(self, data):
        if isinstance(data, Mapping):
            known = [name for name, field in self.fields.items() if not field.read_only]
            unknown = sorted(str(name) for name in set(data) - set(known))
            if unknown:
                sentence = _("There is no such field. There are: %(known)s.") % {"known": ", ".join(known) or "–"}
                raise serializers.ValidationError({name: [sentence] for name in unknown[:10]})
        return super().to_internal_value(data)


class StrictSerializer(RefusesUnknownFields, serializers.Serializer):
    pass


class EmptySerializer(StrictSerializer):
    """No fields: the address says it all."""


class FiniteField(serializers.FloatField):
    """A number that is one: neither NaN nor infinite."""

    default_error_messages = {"finite": _("This must be a finite number.")}

    def to_internal_value(self, data) -> float:
        value = super().to_internal_value(data)
        if not math.isfinite(value):
            self.fail("finite")
        return value


class StrictModelSerializer(RefusesUnknownFields, serializers.ModelSerializer):
    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {models.FloatField: FiniteField}


def checked(serializer_class: type[serializers.Serializer], request, **options) -> serializers.Serializer:
    """The request's body, checked. Raises ValidationError, a 400 that names each wrong field."""
    serializer = serializer_class(data=request.data, **options)
    serializer.is_valid(raise_exception=True)
    return serializer


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
