"""Asking a checkpoint for one completion from a process that has no model: the generate worker answers.

The question travels as a task, the answer through a list in Valkey that this request alone waits on.
"""

import json
import uuid
from typing import Any

import redis
from django.conf import settings as django_settings
from django.utils.translation import gettext_lazy as _

from annotate.errors import Refused
from annotate.models import PolicyCheckpoint

ANSWER_KEPT_SECONDS = 60


class NobodyAnswers(Refused):
    code = "nobody_answers"
    sentence = _("The worker that writes completions did not answer in time. Try again in a while.")


class CouldNotAnswer(Refused):
    code = "could_not_answer"
    sentence = _("The worker could not write a completion for this; its log says why.")


def request_chat(
    *, checkpoint: PolicyCheckpoint, messages: list[dict], settings: dict[str, Any], timeout_seconds: float
) -> dict[str, Any]:
    """One completion by `checkpoint`: {"text", "finish_reason", "completion_tokens", "seed"}.

    `settings`: temperature, top_p, max_new_tokens, and seed if it is to be the same again. Raises NobodyAnswers,
    CouldNotAnswer.
    """
    from trainer.tasks import answer_chat

    request_id = uuid.uuid4().hex
    try:
        answer_chat.apply_async(args=[request_id, checkpoint.pk, messages, settings], expires=timeout_seconds)
        with connect(timeout_seconds) as client:
            found = client.blpop([key(request_id)], timeout=timeout_seconds)
    except (redis.RedisError, answer_chat.OperationalError):
        raise NobodyAnswers from None
    if found is None:
        raise NobodyAnswers
    answer = json.loads(found[1])
    if "error" in answer:
        raise CouldNotAnswer
    return answer


def reply(request_id: str, result: dict[str, Any]) -> None:
    """Hand a result, or {"error": …}, to whoever waits for it; kept for a minute, in case nobody does any more."""
    with connect(0) as client, client.pipeline() as pipeline:
        pipeline.rpush(key(request_id), json.dumps(result))
        pipeline.expire(key(request_id), ANSWER_KEPT_SECONDS)
        pipeline.execute()


def key(request_id: str) -> str:
    return f"whetstone:chat:{request_id}"


def connect(patience_seconds: float) -> redis.Redis:
    url = django_settings.ENVIRONMENT.valkey_url
    return redis.Redis.from_url(url, socket_timeout=patience_seconds + 5, socket_connect_timeout=5)
