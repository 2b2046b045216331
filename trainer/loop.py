"""READ THIS FIRST: one turn of the loop, in the field's words.

    rankings ─► snapshot ─► reward model ─► PPO ─► evaluation ─► gate ─► checkpoint ─► fresh comparisons

Every step asks first whether it is done already, so a turn that was killed anywhere is simply taken again: the frozen
rankings are found in the run folder, a finished stage ends at once, an unfinished one goes on from its saved state.
The learning itself is a program of its own (`trainer.rlhf`) over the run folder (`docs/run-folder.md`).
"""

import json

from django.conf import settings
from django.db import transaction

from annotate.errors import NothingToLearnFrom
from annotate.models import Policy, PolicyCheckpoint, PreferenceSnapshot
from annotate.services.second_opinions import ask_again
from annotate.services.snapshots import freeze_preferences as freeze_snapshot
from trainer.gate import Verdict, weigh
from trainer.models import TrainingRun
from trainer.program import run_stage
from trainer.run_folder import checkpoint_folder, keep_candidate, run_folder, write_run_folder
from trainer.services import enter, make_serving

FEWEST_RANKINGS = 8
RANKINGS_A_DOUBT = 20  # for so many that a run learned from, one at most goes back to a person
OVERTAKEN = "It passed every check, but it was compared with {parent}, and by then {serving} served."


def turn(run: TrainingRun) -> None:
    """One turn of the loop: rankings in, a better policy and fresh comparisons out.

    Raises trainer.program.Cancelled, Interrupted or StageFailed, and NothingToLearnFrom below FEWEST_RANKINGS rankings;
    whoever called says so on the run.
    """
    freeze_preferences(run)
    train_reward_model(run)
    run_ppo(run)
    evaluation = evaluate_candidate(run)
    verdict = pass_the_gate(run, evaluation)
    checkpoint = publish(run, verdict)
    open_fresh_comparisons(run, checkpoint)


def freeze_preferences(run: TrainingRun) -> PreferenceSnapshot:
    """Fix what this run learns from: the snapshot in the database, and the same rankings in the run folder."""
    if run.snapshot is None:
        enter(run, TrainingRun.Status.COLLECTING)
        with transaction.atomic():
            run.snapshot = freeze_snapshot(policy=run.policy, created_by=run.started_by, note=str(run))
            if run.snapshot.size < FEWEST_RANKINGS:
                raise NothingToLearnFrom
            run.parent = run.policy.serving
            run.save(update_fields=["snapshot", "parent"])
    write_run_folder(run)
    return run.snapshot


def train_reward_model(run: TrainingRun) -> None:
    """Learn a score from the rankings, and measure it on prompts it never saw."""
    enter(run, TrainingRun.Status.REWARD)
    run_stage(run, "reward")


def run_ppo(run: TrainingRun) -> None:
    """Sharpen the parent checkpoint against that score, held near the reference by the KL."""
    enter(run, TrainingRun.Status.PPO)
    run_stage(run, "ppo")


def evaluate_candidate(run: TrainingRun) -> dict:
    """Compare the candidate with its parent and the base on held-out prompts."""
    enter(run, TrainingRun.Status.EVALUATING)
    run_stage(run, "evaluate")
    return json.loads((run_folder(run) / "evaluation.json").read_text())


def pass_the_gate(run: TrainingRun, evaluation: dict) -> Verdict:
    """May it serve? Numbers against thresholds, and the reasons in words."""
    enter(run, TrainingRun.Status.GATED)
    report = json.loads((run_folder(run) / "reward" / "report.json").read_text())
    verdict = weigh(evaluation, report, run.policy.gate)
    run.verdict = verdict.as_dict()
    run.save(update_fields=["verdict"])
    return verdict


def publish(run: TrainingRun, verdict: Verdict) -> PolicyCheckpoint:
    """Keep the candidate, whatever the verdict, and send the doubts back to people; let it serve if it passed.

    It was weighed against its parent alone: where another checkpoint serves by now, a person decides.
    """
    keep_candidate(run)
    with transaction.atomic():
        serving = Policy.objects.select_for_update().get(pk=run.policy_id).serving
        checkpoint = run.candidate or register_candidate(run)
        send_doubts_back(run)
        if not verdict.has_passed:
            checkpoint.status = PolicyCheckpoint.Status.REJECTED
            hold_back(run, checkpoint, verdict.sentence)
        elif serving != run.parent:
            hold_back(run, checkpoint, OVERTAKEN.format(parent=run.parent, serving=serving))
        else:
            make_serving(checkpoint)
            enter(run, TrainingRun.Status.PUBLISHED)
    return checkpoint


def hold_back(run: TrainingRun, checkpoint: PolicyCheckpoint, reason: str) -> None:
    """The candidate is kept and does not serve; it and its run say why."""
    run.reason = checkpoint.status_reason = reason
    checkpoint.save(update_fields=["status", "status_reason"])
    enter(run, TrainingRun.Status.REJECTED)


def register_candidate(run: TrainingRun) -> PolicyCheckpoint:
    folder = run_folder(run)
    newest = run.policy.checkpoints.select_for_update().order_by("-number").first()
    run.candidate = PolicyCheckpoint.objects.create(
        policy=run.policy,
        number=newest.number + 1,
        parent=run.parent,
        path=str(checkpoint_folder(run).relative_to(settings.DATA_DIR)),
        metrics={
            "evaluation": json.loads((folder / "evaluation.json").read_text()),
            "reward": json.loads((folder / "reward" / "report.json").read_text()),
        },
    )
    run.save(update_fields=["candidate"])
    return run.candidate


def send_doubts_back(run: TrainingRun) -> None:
    """Ask somebody else about the rankings that models which never saw them contradict most firmly."""
    report = json.loads((run_folder(run) / "reward" / "report.json").read_text())
    doubtful = [int(pair["ranking"]) for pair in report.get("strength", {}).get("doubtful", [])]
    asked = ask_again(ranking_ids=doubtful, most=run.snapshot.size // RANKINGS_A_DOUBT, why=str(run))
    run.verdict = {**run.verdict, "second_opinions": asked}
    run.save(update_fields=["verdict"])


def open_fresh_comparisons(run: TrainingRun, checkpoint: PolicyCheckpoint) -> None:
    """Have the serving checkpoint write the next comparisons; they come ahead of older fresh ones."""
    from trainer.tasks import fill_buffers

    if checkpoint.status == PolicyCheckpoint.Status.SERVING:
        fill_buffers.delay()
