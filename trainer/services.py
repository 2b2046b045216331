"""What people and the tick may do to runs and checkpoints."""

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import Refused, RunActive
from annotate.models import Policy, PolicyCheckpoint, User
from annotate.services.audit import record
from trainer.models import TrainingRun
from trainer.program import Cancelled


def start_run(*, policy: Policy, started_by: User | None = None) -> TrainingRun:
    """Queue a turn of the loop. Raises RunActive: the database allows one at a time for a policy."""
    try:
        with transaction.atomic():
            run = TrainingRun.objects.create(policy=policy, started_by=started_by, heartbeat_at=timezone.now())
            record(actor=started_by, action="start.run", target=str(run), policy=policy.name)
            queue(run)
    except IntegrityError:
        raise RunActive from None
    return run


def cancel_run(*, run: TrainingRun, by: User | None = None) -> None:
    """Ask a run to end. A queued one ends now; one at work saves its state and ends within a stage's next step."""
    with transaction.atomic():
        run = TrainingRun.objects.select_for_update().get(pk=run.pk)
        if not run.is_active:
            raise Refused(_("This run is over already."))
        run.cancel_requested_at = timezone.now()
        run.save(update_fields=["cancel_requested_at"])
        record(actor=by, action="cancel.run", target=str(run))
        if run.status == TrainingRun.Status.QUEUED:
            finish(run, TrainingRun.Status.CANCELLED)


def resume_run(*, run: TrainingRun, by: User | None = None) -> None:
    """Take a failed or cancelled run up again, from the state in its folder."""
    try:
        with transaction.atomic():
            run = TrainingRun.objects.select_for_update().get(pk=run.pk)
            if run.status not in (TrainingRun.Status.FAILED, TrainingRun.Status.CANCELLED):
                raise Refused(_("Only a failed or cancelled run can be taken up again."))
            run.status, run.reason, run.cancel_requested_at = TrainingRun.Status.QUEUED, "", None
            run.finished_at, run.heartbeat_at = None, timezone.now()
            run.save()
            record(actor=by, action="resume.run", target=str(run))
            queue(run)
    except IntegrityError:
        raise RunActive from None


def queue(run: TrainingRun) -> None:
    """Send the run to the train worker once this transaction stands."""
    from trainer.tasks import advance_run

    transaction.on_commit(lambda: advance_run.apply_async(args=[run.pk]))


@transaction.atomic
def enter(run: TrainingRun, status: str) -> None:
    """The run moves on. Entering where it is already changes nothing but the heartbeat.

    Raises Cancelled where somebody has asked it to end: a cancel that was accepted is never written over.
    """
    wanted = TrainingRun.objects.filter(pk=run.pk, status__in=TrainingRun.ACTIVE, cancel_requested_at=None)
    if not wanted.update(heartbeat_at=timezone.now()):  # from here a cancel waits until this transaction ends
        raise Cancelled
    if status in TrainingRun.ACTIVE:
        run.status, run.heartbeat_at = status, timezone.now()
        run.started_at = run.started_at or timezone.now()
        run.save(update_fields=["status", "heartbeat_at", "started_at"])
    else:
        finish(run, status)


def finish(run: TrainingRun, status: str, *, reason: str = "", can_retry: bool = False) -> None:
    run.status, run.finished_at, run.can_retry, run.seconds_left = status, timezone.now(), can_retry, None
    run.reason = reason or run.reason
    run.save(update_fields=["status", "finished_at", "can_retry", "seconds_left", "reason"])


def make_serving(checkpoint: PolicyCheckpoint) -> None:
    """Let a checkpoint serve; the one before retires. Its comparisons come ahead of older fresh ones."""
    policy = Policy.objects.select_for_update().get(pk=checkpoint.policy_id)
    policy.checkpoints.filter(status=PolicyCheckpoint.Status.SERVING).exclude(pk=checkpoint.pk).update(
        status=PolicyCheckpoint.Status.RETIRED
    )
    checkpoint.status = PolicyCheckpoint.Status.SERVING
    checkpoint.save(update_fields=["status"])
    policy.serving_epoch += 1
    policy.save(update_fields=["serving_epoch"])


@transaction.atomic
def roll_back(*, checkpoint: PolicyCheckpoint, by: User | None = None) -> None:
    """Let an earlier checkpoint serve again, at once; what served until now retires and is kept."""
    if checkpoint.status == PolicyCheckpoint.Status.SERVING:
        raise Refused(_("This checkpoint serves already."))
    left = checkpoint.policy.serving
    make_serving(checkpoint)
    record(actor=by, action="roll-back.checkpoint", target=checkpoint.name, left=left.name)

    from trainer.tasks import fill_buffers

    transaction.on_commit(fill_buffers.delay)
