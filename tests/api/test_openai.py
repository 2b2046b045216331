"""The calls that clients of OpenAI's API make. The worker's part is played by a thread that answers as it does."""

import json
import threading

import pytest
import redis

from annotate.models import PolicyCheckpoint
from tests.api.callers import Caller
from tests.worlds import make_cast, make_policy
from trainer import chat
from trainer.rlhf.folder import StageError
from trainer.tasks import answer_chat

pytestmark = pytest.mark.django_db
HELLO = [{"role": "user", "content": "Hello"}]
ANSWER = {"text": "Hi there.", "finish_reason": "stop", "completion_tokens": 3, "seed": 11}


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def policy():
    policy = make_policy("small-talk")
    PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving)
    return policy


@pytest.fixture
def ravi(cast):
    return Caller(cast["ravi"])


@pytest.fixture
def worker(broker, monkeypatch):
    """Answers every question with `answer`, through the broker; keeps what it was asked in `asked`."""

    class Worker:
        answer: dict | None = ANSWER
        asked: list = []

    def ask(args, expires):
        Worker.asked.append(args)
        if Worker.answer is not None:
            threading.Thread(target=chat.reply, args=(args[0], Worker.answer)).start()

    Worker.asked, Worker.answer = [], ANSWER
    monkeypatch.setattr(answer_chat, "apply_async", ask)
    return Worker


def complete(caller, **body):
    return caller.post("/v1/chat/completions", {"model": "small-talk-1", "messages": HELLO} | body)


def test_models_are_checkpoints(ravi, policy):
    body = ravi.get("/v1/models").json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["small-talk-1", "small-talk-0"]


def test_a_checkpoint_answers(ravi, policy, worker):
    response = complete(ravi, temperature=0.5, max_tokens=9, seed=11)
    assert response.status_code == 200
    body = response.json()
    assert (body["object"], body["model"]) == ("chat.completion", "small-talk-1")
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hi there."}
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("stop", 3)
    _request_id, checkpoint_id, messages, settings = worker.asked[0]
    assert checkpoint_id == PolicyCheckpoint.objects.get(number=1).pk
    assert messages == HELLO
    assert settings == {"temperature": 0.5, "top_p": 1.0, "max_new_tokens": 9, "seed": 11}


def test_a_policys_name_is_its_serving_checkpoint(ravi, policy, worker):
    assert complete(ravi, model="small-talk").json()["model"] == "small-talk-0"


def test_a_stream_is_events(ravi, policy, worker):
    response = complete(ravi, stream=True)
    assert response["Content-Type"] == "text/event-stream"
    events = b"".join(response.streaming_content).decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    first, last = (json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-1])
    assert (first["delta"]["content"], last["finish_reason"]) == ("Hi there.", "stop")


def test_content_may_be_parts(ravi, policy, worker):
    complete(
        ravi, messages=[{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}]
    )
    assert worker.asked[0][2] == HELLO


def test_it_says_when_nobody_answers(ravi, policy, worker, monkeypatch):
    monkeypatch.setattr("trainer.api.openai.TIMEOUT_SECONDS", 1)
    worker.answer = None
    response = complete(ravi)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "nobody_answers")


def test_it_says_when_the_worker_fails(ravi, policy, worker):
    worker.answer = {"error": "failed"}
    assert complete(ravi).json()["error"]["code"] == "could_not_answer"


def test_it_says_when_there_is_no_broker(ravi, policy, worker, monkeypatch):
    worker.answer = None
    monkeypatch.setattr("trainer.chat.connect", lambda _patience: redis.Redis(port=1))
    assert complete(ravi).status_code == 503


def test_calls_that_wait_leave_room_for_people(ravi, policy, worker, monkeypatch):
    monkeypatch.setattr("trainer.api.openai.WAITING", threading.BoundedSemaphore(1))
    from trainer.api.openai import WAITING

    with WAITING:
        response = complete(ravi)
    assert (response.status_code, response.json()["error"]["code"]) == (429, "busy")
    assert complete(ravi).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "gpt-4"}, 404),
        ({"model": "small-talk-7"}, 404),
        ({"model": "small-talk-" + "9" * 40}, 404),
        ({"messages": []}, 400),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400),
        ({"messages": [{"role": "user", "content": 5}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, 400),
        ({"temperature": 9}, 400),
        ({"temperature": "nan"}, 400),
        ({"max_tokens": 10**6}, 400),
        ({"n": 2}, 400),
        ({"tools": []}, 400),
    ],
    ids=str,
)
def test_an_error_is_as_these_clients_expect_it(ravi, policy, worker, body, status):
    response = complete(ravi, **body)
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert not worker.asked


@pytest.mark.parametrize("name", ["alice", "olaf"])
def test_annotators_stay_blind(cast, policy, name):
    assert complete(Caller(cast[name])).status_code == 403
    assert Caller(cast[name]).get("/v1/models").status_code == 403


def test_a_model_answers_through_the_broker_and_the_same_seed_answers_the_same(
    ravi, policy, broker, monkeypatch, tmp_path
):
    from tests.tiny_models import make_llama
    from trainer.generation import loaded_model

    policy.base_model = str(make_llama(tmp_path / "tiny"))
    policy.save()
    loaded_model.cache_clear()
    monkeypatch.setattr(answer_chat, "apply_async", lambda args, expires: answer_chat(*args))
    first, again, other = (
        complete(ravi, model="small-talk", max_tokens=12, seed=seed).json()["choices"][0] for seed in (0, 0, 5)
    )
    loaded_model.cache_clear()
    assert first["message"]["content"]
    assert first == again != other
    assert first["finish_reason"] in ("stop", "length")


def test_a_failing_worker_says_so_at_once(ravi, policy, broker, monkeypatch):
    def work(args, expires):
        with pytest.raises(StageError, match="there is no model in /no/such/folder"):
            answer_chat(*args)

    policy.base_model = "/no/such/folder"
    policy.save()
    monkeypatch.setattr(answer_chat, "apply_async", work)
    assert complete(ravi).json()["error"]["code"] == "could_not_answer"
