from datetime import timedelta

import psycopg2
import pytest
from django.db import connection
from django.utils import timezone

from annotate.errors import RunActive
from annotate.models import PreferenceSnapshot
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_policy
from trainer import loop
from trainer.models import TrainingRun
from trainer.program import Cancelled, Interrupted, StageFailed
from trainer.services import cancel_run, finish
from trainer.tasks import LOCK_NAMESPACE, advance_run, tick


@pytest.fixture
def run(policy):
    return TrainingRun.objects.create(policy=policy, heartbeat_at=timezone.now())


@pytest.fixture
def turn_that(monkeypatch):
    def arrange(effect):
        def turn(run):
            if isinstance(effect, type) and issubclass(effect, BaseException):
                raise effect
            if isinstance(effect, BaseException):
                raise effect
            effect(run)

        monkeypatch.setattr("trainer.loop.turn", turn)

    return arrange


def test_it_starts_a_turn_when_enough_rankings_are_new(policy, rank, queued):
    policy.retrain_after = 9
    policy.save()
    rank(8)
    tick()
    assert not policy.runs.exists()
    rank(1)
    tick()
    assert policy.runs.get().status == "queued"


def test_it_counts_only_rankings_newer_than_the_last_turns_snapshot(policy, rank, queued):
    policy.retrain_after = 3
    policy.save()
    rank(8)
    TrainingRun.objects.create(policy=policy, status="published", snapshot=freeze_preferences(policy=policy))
    rank(2)
    tick()
    assert policy.runs.count() == 1
    rank(1)
    tick()
    assert policy.runs.count() == 2


def test_an_export_snapshot_does_not_hide_rankings_from_the_loop(policy, rank, queued):
    policy.retrain_after = 8
    policy.save()
    rank(8)
    freeze_preferences(policy=policy)
    assert PreferenceSnapshot.objects.exists()
    tick()
    assert policy.runs.count() == 1


def test_it_never_starts_one_by_itself_at_zero(policy, rank):
    policy.retrain_after = 0
    policy.save()
    rank(8)
    tick()
    assert not policy.runs.exists()


def test_it_picks_up_a_run_without_a_heartbeat_and_only_that(policy, queued):
    run = TrainingRun.objects.create(policy=policy, status="ppo", heartbeat_at=timezone.now())
    tick()
    assert queued == []
    TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    tick()
    tick()
    assert queued == [run.pk]


def test_a_second_worker_finds_the_lock_taken_and_leaves(run, turn_that):
    turned = []
    turn_that(turned.append)
    settings = connection.settings_dict
    other = psycopg2.connect(
        dbname=settings["NAME"], user=settings["USER"], host=settings["HOST"], port=settings["PORT"] or None
    )
    try:
        other.cursor().execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_NAMESPACE, run.pk])
        advance_run(run.pk)
        assert turned == []
        other.cursor().execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_NAMESPACE, run.pk])
    finally:
        other.close()
    advance_run(run.pk)
    assert turned == [run]


def test_a_redelivered_run_that_is_over_does_nothing(run, turn_that):
    turned = []
    turn_that(turned.append)
    TrainingRun.objects.filter(pk=run.pk).update(status="published")
    advance_run(run.pk)
    assert turned == []


@pytest.mark.parametrize(
    ("effect", "status", "reason"),
    [
        (Cancelled, "cancelled", "taken up again"),
        (StageFailed("The disk is full.", can_retry=True), "failed", "The disk is full."),
    ],
)
def test_it_says_how_a_run_ended(run, turn_that, effect, status, reason):
    turn_that(effect)
    advance_run(run.pk)
    run.refresh_from_db()
    assert run.status == status
    assert reason in run.reason


def test_what_goes_wrong_after_publishing_takes_nothing_back(run, turn_that):
    def publish_and_lose_the_broker(run):
        finish(run, TrainingRun.Status.PUBLISHED)
        raise ConnectionError("the broker is gone")

    turn_that(publish_and_lose_the_broker)
    with pytest.raises(ConnectionError):
        advance_run(run.pk)
    run.refresh_from_db()
    assert run.status == "published"


def test_a_run_interrupted_by_its_workers_stop_stays_active(run, turn_that):
    turn_that(Interrupted)
    advance_run(run.pk)
    run.refresh_from_db()
    assert run.is_active


@pytest.mark.django_db
def test_a_run_with_too_few_rankings_fails_in_words(run, rank, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    rank(3)
    with pytest.raises(Exception, match="too few rankings"):
        advance_run(run.pk)
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.reason == "There are too few rankings to learn from."
    assert not PreferenceSnapshot.objects.exists()


def test_it_waits_for_as_many_rankings_as_a_run_needs_though_fewer_are_asked_for(policy, rank, queued):
    policy.retrain_after = 3
    policy.save()
    rank(7)
    tick()
    assert not policy.runs.exists()
    rank(1)
    tick()
    assert policy.runs.get().status == "queued"


def test_a_run_started_by_hand_meanwhile_keeps_the_tick_from_nothing(policy, run, rank, queued, monkeypatch):
    def too_late(policy):
        raise RunActive

    monkeypatch.setattr("trainer.tasks.start_run", too_late)
    other = make_policy("other")
    TrainingRun.objects.create(policy=other, status="ppo", heartbeat_at=timezone.now() - timedelta(minutes=5))
    TrainingRun.objects.filter(pk=run.pk).update(status="failed")
    policy.retrain_after = 8
    policy.save()
    rank(8)
    tick()
    assert queued == [other.runs.get().pk]


def test_a_cancel_of_a_run_that_a_worker_has_just_taken_holds(run, rank, settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    rank(8)
    turn = loop.turn
    monkeypatch.setattr(loop, "turn", lambda run: (cancel_run(run=run), turn(run)))
    advance_run(run.pk)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert run.snapshot is None
