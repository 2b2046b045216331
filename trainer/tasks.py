"""What the clock and the queues start. Each task fetches by id and calls a service; running twice is running once."""

import logging
from contextlib import contextmanager, suppress
from datetime import timedelta

from celery.signals import worker_shutting_down
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import QuerySet
from django.utils import timezone

from annotate.errors import Refused, RunActive
from annotate.models import Policy, Ranking
from annotate.selectors import new_rankings, rankings_of_policy
from annotate.services.assignments import release_expired_leases
from config.celery import app
from trainer.loop import FEWEST_RANKINGS
from trainer.models import TrainingRun
from trainer.services import finish, start_run

logger = logging.getLogger("whetstone.trainer")

LOCK_NAMESPACE = 0x57E7  # first half of the advisory lock's key: runs of this application
HEARTBEAT_LOST = timedelta(seconds=30)


@app.task
def tick() -> None:
    """Every few seconds: free expired leases, start due turns of the loop, pick up runs whose worker is gone."""
    release_expired_leases()
    start_due_runs()
    pick_up_lost_runs()


def start_due_runs() -> None:
    busy = TrainingRun.objects.filter(status__in=TrainingRun.ACTIVE).values("policy")
    for policy in Policy.objects.filter(retrain_after__gt=0).exclude(pk__in=busy):
        if has(policy.retrain_after, new_rankings(policy)) and has(FEWEST_RANKINGS, rankings_of_policy(policy)):
            with suppress(RunActive):  # somebody has just started one by hand
                start_run(policy=policy)


def has(count: int, rankings: QuerySet[Ranking]) -> bool:
    """Whether there are so many. Counts no further: at a million rankings this still reads an index for few rows."""
    return rankings[:count].count() >= count


def pick_up_lost_runs() -> None:
    """Queue again what has no heartbeat. If its worker lives after all, the second one finds the lock and leaves."""
    lost = TrainingRun.objects.filter(status__in=TrainingRun.ACTIVE, heartbeat_at__lt=timezone.now() - HEARTBEAT_LOST)
    for run in lost:
        TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=timezone.now())
        advance_run.apply_async(args=[run.pk], expires=HEARTBEAT_LOST.total_seconds())


@app.task
def advance_run(run_id: int) -> None:
    """Take a run as far as it goes: to its end, to a failure said in words, or to this worker's stop."""
    from trainer.loop import turn
    from trainer.program import Cancelled, Interrupted, StageFailed

    with the_only_one(run_id) as is_mine:
        run = TrainingRun.objects.select_related("policy", "parent", "snapshot").get(pk=run_id)
        if not is_mine or not run.is_active:
            return
        try:
            turn(run)
        except Cancelled:
            finish(run, TrainingRun.Status.CANCELLED, reason="Cancelled; it can be taken up again.", can_retry=True)
        except Interrupted:
            logger.info("%s waits for a worker; it goes on from %s, step %s", run, run.stage, run.step)
        except StageFailed as failure:
            finish(run, TrainingRun.Status.FAILED, reason=str(failure), can_retry=failure.can_retry)
        except Exception as error:
            if run.is_active:  # what went wrong after the checkpoint was published takes nothing back
                finish_with_reason(run, error)
            raise


def finish_with_reason(run: TrainingRun, error: Exception) -> None:
    logger.exception("%s failed", run)
    reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
    finish(run, TrainingRun.Status.FAILED, reason=reason, can_retry=True)


@contextmanager
def the_only_one(run_id: int):
    """Hold the run's advisory lock, which the database gives back when this session ends, however it ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_NAMESPACE, run_id])
        is_mine = cursor.fetchone()[0]
    try:
        yield is_mine
    finally:
        # A connection that broke has given the lock back already.
        if is_mine:
            with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_NAMESPACE, run_id])


@app.task
def fill_buffers() -> None:
    """Write the next batch of comparisons; while a pool wants more, come back, so that other work gets its turn."""
    from trainer.generation import check_languages, write_next_batch

    if write_next_batch():
        fill_buffers.apply_async(expires=60)
    else:
        check_languages()


@app.task
def answer_chat(request_id: str, checkpoint_id: int, messages: list[dict], settings: dict) -> None:
    """Answer one OpenAI-style request with a checkpoint; the web process waits for it."""
    from trainer.chat import reply
    from trainer.generation import chat

    try:
        reply(request_id, chat(checkpoint_id, messages, settings))
    except Exception:
        reply(request_id, {"error": "failed"})  # or the web process would wait for nothing
        raise


@worker_shutting_down.connect
def stop_the_program(**_kwargs) -> None:
    from trainer.program import worker_is_stopping

    worker_is_stopping.set()
