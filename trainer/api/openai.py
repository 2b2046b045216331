"""Any checkpoint behind the calls that clients of OpenAI's API make: `/v1/models` and `/v1/chat/completions`.

`model` is a checkpoint's name, or a policy's: then the checkpoint that serves. Authorization: Bearer with an API token.
Left out: tools, images, several choices, log-probabilities; what would change the answer and is not known is refused.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterator

from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import as_json
from annotate.api.permissions import MayResearch
from annotate.api.strict import FiniteField, StrictSerializer, checked
from annotate.models import PolicyCheckpoint
from trainer.chat import NobodyAnswers, request_chat

TIMEOUT_SECONDS = 100
MOST_TOKENS = 2048
DEFAULT_TOKENS = 256
ROLES = ("system", "user", "assistant")
# A call waits in a thread of the web server. Half of them stay free for people.
WAITING = threading.BoundedSemaphore(max(1, settings.ENVIRONMENT.web_threads // 2))


class Busy(APIException):
    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "busy"


class PartSerializer(StrictSerializer):
    type = serializers.ChoiceField(["text"])
    text = serializers.CharField(trim_whitespace=False, allow_blank=True, max_length=100_000)


@extend_schema_field(str)
class ContentField(serializers.Field):
    """A text, or a list of parts {"type": "text", "text"}."""

    def to_internal_value(self, data) -> str:
        if isinstance(data, list):
            parts = PartSerializer(data=data, many=True)
            parts.is_valid(raise_exception=True)
            return "".join(part["text"] for part in parts.validated_data)
        if not isinstance(data, str) or len(data) > 100_000:
            raise serializers.ValidationError(_("This must be a text."))
        return data

    def to_representation(self, value: str) -> str:
        return value


class ChatMessageSerializer(StrictSerializer):
    role = serializers.ChoiceField(ROLES)
    content = ContentField()


class ChatSerializer(StrictSerializer):
    model = serializers.CharField(max_length=100)
    messages = ChatMessageSerializer(many=True, allow_empty=False)
    temperature = FiniteField(min_value=0, max_value=2, default=1.0, allow_null=True)
    top_p = FiniteField(min_value=0.01, max_value=1, default=1.0, allow_null=True)
    max_tokens = serializers.IntegerField(min_value=1, max_value=MOST_TOKENS, required=False, allow_null=True)
    max_completion_tokens = serializers.IntegerField(
        min_value=1, max_value=MOST_TOKENS, required=False, allow_null=True
    )
    seed = serializers.IntegerField(min_value=0, max_value=2**62, required=False, allow_null=True)
    n = serializers.IntegerField(min_value=1, max_value=1, default=1)
    stream = serializers.BooleanField(default=False)
    user = serializers.CharField(required=False, allow_blank=True, help_text="Ignored.")

    def sampling(self) -> dict:
        asked = self.validated_data
        chosen = {
            "temperature": 1.0 if asked["temperature"] is None else asked["temperature"],
            "top_p": asked["top_p"] or 1.0,
            "max_new_tokens": asked.get("max_completion_tokens") or asked.get("max_tokens") or DEFAULT_TOKENS,
        }
        return chosen | ({"seed": asked["seed"]} if asked.get("seed") is not None else {})


class ModelSerializer(serializers.Serializer):
    id = serializers.CharField()
    object = serializers.CharField()
    created = serializers.IntegerField()
    owned_by = serializers.CharField()


class ModelsSerializer(serializers.Serializer):
    object = serializers.CharField()
    data = ModelSerializer(many=True)


class OpenAIView(APIView):
    permission_classes = [MayResearch]

    def get_exception_handler(self):
        return as_openai_error


def as_openai_error(error, context):
    """Errors as these clients expect them: {"error": {"message", "type", "code", "param"}}."""
    response = as_json(error, context)
    if response is not None:
        if isinstance(error, NobodyAnswers):
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        fault = "server_error" if response.status_code >= 500 else "invalid_request_error"
        code, message = response.data["code"], response.data["detail"]
        response.data = {"error": {"message": message, "type": fault, "param": None, "code": code}}
    return response


class Models(OpenAIView):
    @extend_schema(summary="Checkpoints that can be asked", responses=ModelsSerializer)
    def get(self, request):
        checkpoints = PolicyCheckpoint.objects.select_related("policy").defer("metrics").order_by("-id")[:1000]
        data = [
            {
                "id": checkpoint.name,
                "object": "model",
                "created": int(checkpoint.created_at.timestamp()),
                "owned_by": checkpoint.policy.name,
            }
            for checkpoint in checkpoints
        ]
        return Response({"object": "list", "data": data})


class ChatCompletions(OpenAIView):
    @extend_schema(summary="Ask a checkpoint", request=ChatSerializer, responses={200: dict})
    def post(self, request):
        serializer = checked(ChatSerializer, request)
        asked = serializer.validated_data
        checkpoint = checkpoint_named(asked["model"])
        if not WAITING.acquire(blocking=False):
            raise Busy(_("Too many calls are waiting for completions. Try again in a while."))
        try:
            answer = request_chat(
                checkpoint=checkpoint,
                messages=[dict(message) for message in asked["messages"]],
                settings=serializer.sampling(),
                timeout_seconds=TIMEOUT_SECONDS,
            )
        finally:
            WAITING.release()
        if asked["stream"]:
            return StreamingHttpResponse(events(checkpoint, answer), content_type="text/event-stream")
        return Response(completion(checkpoint, answer))


def checkpoint_named(name: str) -> PolicyCheckpoint:
    """The checkpoint of that name, or the serving one of the policy of that name. Raises NotFound."""
    checkpoints = PolicyCheckpoint.objects.select_related("policy")
    policy, _dash, number = name.rpartition("-")
    found = None
    if policy and number.isascii() and number.isdigit() and len(number) < 10:
        found = checkpoints.filter(policy__name=policy, number=int(number)).first()
    found = found or checkpoints.filter(policy__name=name, status=PolicyCheckpoint.Status.SERVING).first()
    if found is None:
        raise NotFound(_("There is no model “%(name)s”; GET /v1/models lists them.") % {"name": name})
    return found


def completion(checkpoint: PolicyCheckpoint, answer: dict) -> dict:
    message = {"role": "assistant", "content": answer["text"]}
    choice = {"index": 0, "message": message, "finish_reason": answer["finish_reason"], "logprobs": None}
    return envelope(checkpoint, answer, "chat.completion", choice) | {
        "usage": {"completion_tokens": answer["completion_tokens"]}
    }


def events(checkpoint: PolicyCheckpoint, answer: dict) -> Iterator[bytes]:
    """The answer as the events of a stream: all of it in one piece, since it was written in one."""
    delta = {"role": "assistant", "content": answer["text"]}
    pieces = [
        {"index": 0, "delta": delta, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": answer["finish_reason"]},
    ]
    for piece in pieces:
        yield b"data: " + json.dumps(envelope(checkpoint, answer, "chat.completion.chunk", piece)).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def envelope(checkpoint: PolicyCheckpoint, answer: dict, kind: str, choice: dict) -> dict:
    return {
        "id": f"chatcmpl-{uuid.uuid5(uuid.NAMESPACE_OID, str(answer['seed'])).hex}",
        "object": kind,
        "created": int(time.time()),
        "model": checkpoint.name,
        "system_fingerprint": f"seed-{answer['seed']}",
        "choices": [choice],
    }
