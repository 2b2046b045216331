import pytest
from django.db import IntegrityError, transaction

from annotate.errors import Refused, RunActive
from annotate.models import AuditEvent, PolicyCheckpoint
from trainer.models import TrainingRun
from trainer.services import cancel_run, finish, make_serving, resume_run, roll_back, start_run


@pytest.fixture
def second(policy):
    return PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving, path="somewhere")


def test_it_queues_a_run_once_its_row_is_committed(policy, queued, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        run = start_run(policy=policy)
        assert queued == []
    assert queued == [run.pk]
    assert AuditEvent.objects.get().action == "start.run"


def test_it_refuses_a_second_active_run(policy, queued):
    start_run(policy=policy)
    with pytest.raises(RunActive):
        start_run(policy=policy)
    assert policy.runs.count() == 1


def test_the_database_refuses_a_second_active_run(policy):
    TrainingRun.objects.create(policy=policy, status="ppo")
    with pytest.raises(IntegrityError), transaction.atomic():
        TrainingRun.objects.create(policy=policy, status="queued")


def test_it_starts_again_after_a_run_is_over(policy, queued):
    finish(start_run(policy=policy), TrainingRun.Status.FAILED, reason="no")
    assert start_run(policy=policy).is_active


def test_it_cancels_a_queued_run_at_once(policy, queued):
    run = start_run(policy=policy)
    cancel_run(run=run)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert run.finished_at is not None


def test_it_asks_a_run_at_work_to_end(policy):
    run = TrainingRun.objects.create(policy=policy, status="ppo")
    cancel_run(run=run)
    run.refresh_from_db()
    assert run.status == "ppo"
    assert run.cancel_requested_at is not None


def test_it_does_not_cancel_what_is_over(policy):
    with pytest.raises(Refused):
        cancel_run(run=TrainingRun.objects.create(policy=policy, status="published"))


def test_it_takes_a_failed_run_up_again(policy, queued, django_capture_on_commit_callbacks):
    run = TrainingRun.objects.create(policy=policy, status="failed", reason="out of memory")
    with django_capture_on_commit_callbacks(execute=True):
        resume_run(run=run)
    run.refresh_from_db()
    assert (run.status, run.reason) == ("queued", "")
    assert queued == [run.pk]


def test_it_does_not_take_up_a_published_run(policy):
    with pytest.raises(Refused):
        resume_run(run=TrainingRun.objects.create(policy=policy, status="published"))


def test_it_lets_one_checkpoint_serve_and_retires_the_one_before(policy, second):
    make_serving(second)
    statuses = dict(policy.checkpoints.values_list("number", "status"))
    assert statuses == {0: "retired", 1: "serving"}
    policy.refresh_from_db()
    assert policy.serving_epoch == 1


def test_it_rolls_back_and_forth_and_each_time_comes_first(policy, second, queued, django_capture_on_commit_callbacks):
    first = policy.serving
    make_serving(second)
    first.refresh_from_db()
    with django_capture_on_commit_callbacks(execute=True):
        roll_back(checkpoint=first)
    policy.refresh_from_db()
    assert policy.serving == first
    assert policy.serving_epoch == 2
    assert queued == ["fill"]
    assert AuditEvent.objects.get().detail == {"left": "tiny-1"}


def test_it_does_not_roll_back_to_what_serves(policy):
    with pytest.raises(Refused):
        roll_back(checkpoint=policy.serving)
