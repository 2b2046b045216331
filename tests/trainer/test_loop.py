"""The turn's own steps, with stages that write their products at once; test_closed_loop.py runs the real ones."""

import json

import pytest
from django.utils import timezone

from annotate.errors import NothingToFreeze, NothingToLearnFrom
from annotate.models import Comparison, PolicyCheckpoint, PreferenceSnapshot
from trainer import loop
from trainer.models import TrainingRun
from trainer.program import Cancelled, StageFailed
from trainer.run_folder import adapter_path, run_folder
from trainer.services import cancel_run, finish, make_serving, resume_run

EVALUATION = {"win_rate": {"value": 0.8}, "kl": 4.0, "length": {"candidate": 30, "parent": 30}}
REPORT = {"accuracy": {"value": 0.7}}


@pytest.fixture
def run(policy, settings, tmp_path, queued):
    settings.DATA_DIR = tmp_path
    return TrainingRun.objects.create(policy=policy, heartbeat_at=timezone.now())


@pytest.fixture
def stages(monkeypatch):
    """The stages that were asked for, in order; each leaves what the real one leaves."""
    asked, evaluation = [], dict(EVALUATION)

    def run_stage(run, stage):
        asked.append(stage)
        folder = run_folder(run)
        if stage == "reward":
            (folder / "reward").mkdir(exist_ok=True)
            (folder / "reward" / "report.json").write_text(json.dumps(REPORT))
        elif stage == "ppo":
            (folder / "ppo" / "policy").mkdir(parents=True, exist_ok=True)
            (folder / "ppo" / "policy" / "adapter_config.json").write_text("{}")
        else:
            (folder / "evaluation.json").write_text(json.dumps(evaluation))

    monkeypatch.setattr(loop, "run_stage", run_stage)
    run_stage.asked, run_stage.evaluation = asked, evaluation
    return run_stage


def test_a_turn_publishes_a_better_checkpoint_and_asks_for_fresh_comparisons(run, rank, stages, queued):
    rank(8)
    loop.turn(run)
    run.refresh_from_db()
    assert stages.asked == ["reward", "ppo", "evaluate"]
    assert run.status == "published"
    assert run.snapshot.size == 8
    assert (run.candidate.number, run.candidate.parent, run.candidate.status) == (1, run.parent, "serving")
    assert (adapter_path(run.candidate) / "adapter_config.json").exists()
    assert run.candidate.metrics == {"evaluation": EVALUATION, "reward": REPORT}
    assert queued == ["fill"]


def test_a_refused_candidate_is_kept_with_the_reason_and_does_not_serve(run, rank, stages, queued):
    rank(8)
    stages.evaluation["kl"] = 50.0
    loop.turn(run)
    run.refresh_from_db()
    assert run.status == "rejected"
    assert run.candidate.status == "rejected"
    assert run.candidate.status_reason == "KL to the base, in nats, is 50.00; at most 12.00 is allowed."
    assert run.policy.serving.number == 0
    assert queued == []


def test_a_turn_taken_again_after_a_kill_learns_from_the_same_rankings(run, rank, stages, monkeypatch):
    rank(8)
    real = loop.evaluate_candidate
    monkeypatch.setattr(loop, "evaluate_candidate", lambda run: (_ for _ in ()).throw(StageFailed("killed", True)))
    with pytest.raises(StageFailed):
        loop.turn(run)
    rank(4)
    monkeypatch.setattr(loop, "evaluate_candidate", real)
    loop.turn(TrainingRun.objects.select_related("policy", "parent", "snapshot").get(pk=run.pk))
    run.refresh_from_db()
    assert run.status == "published"
    assert run.snapshot.size == 8
    assert PreferenceSnapshot.objects.count() == 1
    assert len((run_folder(run) / "rankings.jsonl").read_text().splitlines()) == 8


def test_a_turn_killed_between_keeping_and_publishing_makes_no_second_checkpoint(run, rank, stages, monkeypatch):
    rank(8)
    real = loop.make_serving
    monkeypatch.setattr(loop, "make_serving", lambda checkpoint: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        loop.turn(run)
    monkeypatch.setattr(loop, "make_serving", real)
    loop.turn(TrainingRun.objects.get(pk=run.pk))
    assert run.policy.checkpoints.count() == 2
    assert run.policy.serving.number == 1


def test_the_next_turn_starts_from_the_checkpoint_that_serves(run, policy, rank, stages):
    rank(8)
    loop.turn(run)
    rank(2)
    second = TrainingRun.objects.create(policy=policy, heartbeat_at=timezone.now())
    loop.turn(second)
    second.refresh_from_db()
    assert second.parent == run.candidate
    assert second.candidate.number == 2
    assert second.snapshot.size == 10
    assert second.config["parent"] == str(adapter_path(run.candidate))


def test_a_run_taken_up_again_does_not_retire_a_newer_checkpoint(run, policy, rank, stages, monkeypatch, queued):
    rank(8)
    with monkeypatch.context() as patched, pytest.raises(StageFailed):
        patched.setattr(loop, "run_ppo", lambda run: (_ for _ in ()).throw(StageFailed("The disk is full.", True)))
        loop.turn(run)
    finish(run, TrainingRun.Status.FAILED, can_retry=True)
    newer = TrainingRun.objects.create(policy=policy, heartbeat_at=timezone.now())
    loop.turn(newer)
    resume_run(run=run)
    queued.clear()
    run.refresh_from_db()
    loop.turn(run)
    run.refresh_from_db()
    assert policy.serving == newer.candidate
    assert (run.status, run.candidate.number, run.candidate.status) == ("rejected", 2, "candidate")
    assert (
        run.reason
        == run.candidate.status_reason
        == "It passed every check, but it was compared with tiny-0, and by then tiny-1 served."
    )
    assert queued == []


def test_a_run_from_a_checkpoint_that_was_rolled_back_meanwhile_does_not_serve(run, policy, rank, stages, monkeypatch):
    rank(8)
    base = policy.serving
    make_serving(PolicyCheckpoint.objects.create(policy=policy, number=1, parent=base, path="somewhere"))
    weigh = loop.pass_the_gate
    monkeypatch.setattr(loop, "pass_the_gate", lambda *given: (make_serving(base), weigh(*given))[1])
    loop.turn(run)
    assert policy.serving == base
    assert run.candidate.status == "candidate"


def test_a_cancel_accepted_at_the_gate_holds_and_the_run_can_be_taken_up_again(run, policy, rank, stages, monkeypatch):
    rank(8)
    keep = loop.keep_candidate
    with monkeypatch.context() as patched, pytest.raises(Cancelled):
        patched.setattr(loop, "keep_candidate", lambda run: (keep(run), cancel_run(run=run)))
        loop.turn(run)
    assert (policy.serving.number, policy.checkpoints.count()) == (0, 1)
    finish(run, TrainingRun.Status.CANCELLED)
    resume_run(run=run)
    loop.turn(TrainingRun.objects.get(pk=run.pk))
    assert (policy.serving.number, policy.checkpoints.count()) == (1, 2)


def test_it_sends_the_firmest_doubts_back_to_people_once(run, rank, stages, monkeypatch):
    rankings = rank(41)
    doubtful = [rankings[7], rankings[7], rankings[3], rankings[5]]  # two pairs of one ranking; one in twenty may go
    pairs = [{"ranking": str(ranking.pk), "mean": -1.0} for ranking in doubtful]
    monkeypatch.setitem(REPORT, "strength", {"doubtful": pairs})
    loop.turn(run)
    run.refresh_from_db()
    assert run.verdict["second_opinions"] == 2
    asked = Comparison.objects.filter(overlap=2)
    assert {comparison.pk for comparison in asked} == {each.assignment.comparison_id for each in doubtful[:3]}


@pytest.mark.parametrize(("count", "error"), [(0, NothingToFreeze), (7, NothingToLearnFrom)])
def test_it_refuses_to_learn_from_too_few_rankings(run, rank, stages, count, error):
    rank(count)
    with pytest.raises(error):
        loop.turn(run)
    assert stages.asked == []
