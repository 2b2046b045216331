"""Freezing rankings, their hash, and the lineage in both directions."""

import hashlib
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.errors import FrozenRanking, NothingToFreeze, WrongFilter
from annotate.lineage import (
    annotators_behind,
    checkpoints_touched_by,
    guideline_versions_behind,
    rankings_behind,
    with_ancestors,
)
from annotate.models import AuditEvent, Comparison, Completion, PolicyCheckpoint, PreferenceSnapshot, Ranking, User
from annotate.preferences import ranking_rows
from annotate.services.rankings import Answer, revise_ranking
from annotate.services.snapshots import freeze_preferences, snapshot_rankings, withdraw_annotator
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking
from trainer.lineage import runs_that_used
from trainer.models import TrainingRun
from trainer.rlhf.data import read_rankings
from trainer.run_folder import write_lines

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return make_cast()


@pytest.fixture
def policy():
    return make_policy()


@pytest.fixture
def pool(policy):
    return make_pool(policy, overlap=3)


@pytest.fixture
def comparison(pool):
    return make_comparison(make_prompt(pool, "Say hello"), ["hello", "hi", "good day"])


def candidate_of(policy, snapshot, number, parent):
    checkpoint = PolicyCheckpoint.objects.create(policy=policy, number=number, parent=parent)
    run = TrainingRun.objects.create(
        policy=policy, snapshot=snapshot, candidate=checkpoint, parent=parent, status=TrainingRun.Status.PUBLISHED
    )
    return checkpoint, run


def test_it_freezes_what_counts_now(cast, policy, pool, comparison):
    counted = make_ranking(comparison, cast["alice"], [1, 2, 3])
    training = make_comparison(comparison.prompt, ["a", "b"], kind=Comparison.Kind.TRAINING)
    make_ranking(training, cast["alice"], [1, 2], counts=False)
    other = make_pool(make_policy("other"), "other")
    make_ranking(make_comparison(make_prompt(other, "x"), ["a", "b"]), cast["alice"], [1, 2])

    snapshot = freeze_preferences(policy=policy, created_by=cast["maria"], note="first")

    assert list(snapshot.rankings.all()) == [counted]
    assert (snapshot.size, snapshot.newest_ranking_id, snapshot.note) == (1, counted.pk, "first")


def test_its_hash_is_the_hash_of_the_run_folders_file(cast, policy, comparison, tmp_path):
    make_ranking(comparison, cast["alice"], [2, 1, 2], strength=2)
    make_ranking(comparison, cast["bob"], [1, 1, 1], all_bad=True)
    snapshot = freeze_preferences(policy=policy)
    path = tmp_path / "rankings.jsonl"
    write_lines(path, snapshot_rankings(snapshot))
    assert snapshot.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(snapshot_rankings(snapshot))


def test_the_trainer_reads_the_file(cast, policy, comparison, tmp_path):
    ranking = make_ranking(comparison, cast["alice"], [2, 1, 2], strength=2)
    write_lines(tmp_path / "rankings.jsonl", snapshot_rankings(freeze_preferences(policy=policy)))
    (record,) = read_rankings(tmp_path / "rankings.jsonl")
    assert record.id == str(ranking.pk)
    assert record.prompt == [{"role": "user", "content": "Say hello"}]
    assert [completion.text for completion in record.completions] == ["hello", "hi", "good day"]
    assert record.ranks == (2, 1, 2)
    assert record.checkpoints == ("tiny-0",) * 3
    assert (record.strength, record.annotator) == (2.0, cast["alice"].pseudonym)
    assert record.split == ("held_out" if comparison.prompt.is_held_out else "train")


def test_the_trainer_learns_on_the_tokens_that_were_sampled_and_of_a_person_on_the_text(
    cast, policy, comparison, tmp_path
):
    sampled, *others = comparison.completions.order_by("id")
    Completion.objects.filter(pk=sampled.pk).update(token_ids=[7, 8, 2])
    Completion.objects.filter(pk__in=[other.pk for other in others]).update(token_ids=[])
    make_ranking(comparison, cast["alice"], [2, 1, 2])
    write_lines(tmp_path / "rankings.jsonl", snapshot_rankings(freeze_preferences(policy=policy)))
    (record,) = read_rankings(tmp_path / "rankings.jsonl")
    first, *rest = record.completions
    assert list(first.token_ids) == [7, 8, 2]
    assert [completion.token_ids for completion in rest] == [None, None]


def test_the_same_rankings_have_the_same_hash_and_others_another(cast, policy, comparison):
    make_ranking(comparison, cast["alice"], [1, 2, 3])
    first, second = freeze_preferences(policy=policy), freeze_preferences(policy=policy)
    make_ranking(comparison, cast["bob"], [1, 2, 3])
    third = freeze_preferences(policy=policy)
    assert first.content_hash == second.content_hash != third.content_hash


def test_a_withdrawn_annotators_rankings_are_not_in_the_next_snapshot(cast, policy, comparison):
    make_ranking(comparison, cast["alice"], [1, 2, 3])
    kept = make_ranking(comparison, cast["bob"], [1, 2, 3])
    before = freeze_preferences(policy=policy)
    assert withdraw_annotator(annotator=cast["alice"], by=cast["maria"]) == []
    after = freeze_preferences(policy=policy)
    assert (before.size, after.size) == (2, 1)
    assert after.newest_ranking_id == kept.pk
    assert len(list(snapshot_rankings(before))) == 2  # frozen: what the run used does not change


def test_it_takes_filters(cast, policy, pool, comparison):
    make_ranking(comparison, cast["alice"], [1, 2, 3])
    tagged = make_comparison(make_prompt(pool, "你好", language="zh-hans", tags=["greeting"]), ["好", "您好"])
    wanted = make_ranking(tagged, cast["alice"], [1, 2])
    snapshot = freeze_preferences(policy=policy, filters={"language": "zh-hans", "tag": "greeting"})
    assert list(snapshot.rankings.all()) == [wanted]
    assert snapshot.filters == {"language": "zh-hans", "tag": "greeting"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("split", "test"), ("since", "yesterday"), ("pool", "-1"), ("pool", "9" * 30), ("colour", "red"), ("tag", "\0")],
)
def test_it_refuses_a_wrong_filter_with_a_sentence_that_names_it(policy, name, value):
    with pytest.raises(WrongFilter, match=name):
        freeze_preferences(policy=policy, filters={name: value})


def test_it_refuses_to_freeze_nothing(policy):
    with pytest.raises(NothingToFreeze):
        freeze_preferences(policy=policy)
    assert not PreferenceSnapshot.objects.exists()


def test_a_frozen_ranking_can_no_longer_be_corrected(cast, policy, comparison):
    ranking = make_ranking(comparison, cast["alice"], [1, 2, 3])
    freeze_preferences(policy=policy)
    better = Answer(ranks=dict(zip([int(pk) for pk in ranking.ranks], [3, 2, 1], strict=True)))
    with pytest.raises(FrozenRanking):
        revise_ranking(
            assignment_id=ranking.assignment_id, annotator=cast["alice"], idempotency_key="new", answer=better
        )


def test_lineage_is_answered_both_ways(cast, policy, comparison):
    base = policy.serving
    ranking = make_ranking(comparison, cast["alice"], [1, 2, 3])
    first, first_run = candidate_of(policy, freeze_preferences(policy=policy), 1, base)
    later = make_ranking(comparison, cast["bob"], [1, 2, 3])
    only_bob = freeze_preferences(policy=policy, filters={"since": later.created_at})
    second, second_run = candidate_of(policy, only_bob, 2, first)

    assert with_ancestors(second) == [second, first, base]
    assert set(rankings_behind(first)) == {ranking}
    assert set(rankings_behind(second)) == {ranking, later}
    assert set(annotators_behind(second)) == {cast["alice"], cast["bob"]}
    assert list(guideline_versions_behind(first)) == [comparison.pool.guidelines]
    assert list(runs_that_used(ranking)) == [first_run]
    assert list(runs_that_used(later)) == [second_run]
    assert checkpoints_touched_by(cast["alice"]) == [first, second]  # the second descends from the first
    assert withdraw_annotator(annotator=cast["bob"]) == [second]
    assert AuditEvent.objects.get(action="withdraw.person").detail == {"checkpoints": ["tiny-2"]}
    assert not User.objects.get(username="bob").is_active
    assert not rankings_behind(base).exists()


def test_a_row_says_where_each_completion_was_shown(cast, comparison):
    make_ranking(comparison, cast["alice"], [1, 2, 3])
    (row,) = ranking_rows(Ranking.objects.all())
    assert [each.position for each in row.completions] == [3, 2, 1]
    assert row.shown == [each.id for each in row.completions][::-1]
    assert row.guideline_version == 1


def test_rows_have_token_ids_only_where_they_are_asked_for(cast, comparison):
    first = comparison.completions.order_by("id").first()
    first.token_ids = [7, 2]
    first.save()
    make_ranking(comparison, cast["alice"], [1, 2, 3])
    with CaptureQueriesContext(connection) as without:
        (plain,) = ranking_rows(Ranking.objects.all())
    (whole,) = ranking_rows(Ranking.objects.all(), with_token_ids=True)
    assert (plain.completions[0].token_ids, whole.completions[0].token_ids) == ((), (7, 2))
    assert not any("token_ids" in query["sql"] for query in without.captured_queries)


def test_reading_rows_takes_as_many_statements_for_many_as_for_few(cast, pool, django_assert_max_num_queries):
    for number in range(20):
        make_ranking(make_comparison(make_prompt(pool, f"prompt {number}"), ["a", "b"]), cast["alice"], [1, 2])
    with django_assert_max_num_queries(5):
        assert len(list(ranking_rows(Ranking.objects.all()))) == 20
