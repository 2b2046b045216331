"""Many people at once on one pool, in threads with a connection each, on a real PostgreSQL."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.errors import AlreadyAnswered, FrozenRanking, KeyUsedTwice, Refused, StaleLease
from annotate.models import Assignment, Comparison, Ranking
from annotate.services.assignments import lease_next_comparison, release_expired_leases, skip_comparison
from annotate.services.rankings import Answer, revise_ranking, submit_ranking
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_comparison, make_person, make_policy, make_pool, make_prompt, make_ranking

pytestmark = pytest.mark.django_db(transaction=True)
ANNOTATORS = 50
OVERLAP = 3
COMPARISONS = 30


def at_once(*calls):
    """Run calls in threads that start together. Returns what each gave, an exception where it raised Refused."""
    gate = threading.Barrier(len(calls))

    def run(call):
        try:
            gate.wait()
            return call()
        except Refused as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result() for each in [threads.submit(run, call) for call in calls]]


def in_order(assignment):
    return Answer(ranks={completion: rank for rank, completion in enumerate(assignment.order, start=1)})


def submit(assignment, annotator, key):
    return submit_ranking(
        assignment_id=assignment.pk,
        annotator=annotator,
        token=assignment.token,
        idempotency_key=key,
        answer=in_order(assignment),
    )


def work(annotator, seed, deadline):
    """Lease and answer until everything is answered; now and then skip, or walk away with the lease."""
    rng = random.Random(seed)
    while Ranking.objects.count() < COMPARISONS * OVERLAP and time.monotonic() < deadline:
        assignment = lease_next_comparison(annotator=annotator)
        if assignment is None:
            time.sleep(0.01)
            continue
        chance = rng.random()
        if chance < 0.1:
            skip_comparison(assignment_id=assignment.pk, annotator=annotator, token=assignment.token, reason="no")
        elif chance < 0.2:
            late = timezone.now() - timedelta(seconds=1)
            Assignment.objects.filter(pk=assignment.pk).update(expires_at=late)
        elif chance < 0.3:
            late = timezone.now() - timedelta(seconds=1)
            Assignment.objects.filter(pk=assignment.pk).update(expires_at=late)
            release_expired_leases()
            with suppress(StaleLease):  # somebody else has the place
                submit(assignment, annotator, key=f"{assignment.pk}")
        else:
            submit(assignment, annotator, key=f"{assignment.pk}")
            submit(assignment, annotator, key=f"{assignment.pk}")  # as a browser does that heard no answer


def test_fifty_people_share_a_pool_and_nothing_is_lost_or_done_twice():
    pool = make_pool(make_policy(), overlap=OVERLAP)
    for number in range(COMPARISONS):
        make_comparison(make_prompt(pool, f"p{number}"), ["a", "b", "c"])
    people = [make_person(f"annotator-{number}", "annotator") for number in range(ANNOTATORS)]
    deadline = time.monotonic() + 60

    at_once(*(lambda p=person, n=number: work(p, n, deadline) for number, person in enumerate(people)))
    release_expired_leases()

    assert Ranking.objects.count() == COMPARISONS * OVERLAP
    for comparison in Comparison.objects.all():
        live = comparison.assignments.filter(status__in=["leased", "answered"])
        assert comparison.taken == live.count() == OVERLAP
        assert comparison.answered == OVERLAP
        assert Ranking.objects.filter(assignment__comparison=comparison).count() == OVERLAP
    kept = Assignment.objects.exclude(status="expired").values_list("comparison", "annotator")
    assert max(Counter(kept).values()) == 1
    assert {"expired", "skipped", "answered"} == set(Assignment.objects.values_list("status", flat=True))


def test_two_people_never_get_the_last_place():
    pool = make_pool(make_policy())
    people = [make_person(f"annotator-{number}", "annotator") for number in range(8)]
    for number in range(10):
        make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"])
        leases = at_once(*(lambda p=person: lease_next_comparison(annotator=p) for person in people))
        assert sum(lease is not None for lease in leases) == 1


def test_one_person_in_many_tabs_gets_a_comparison_once():
    pool = make_pool(make_policy(), overlap=9)
    for number in range(4):
        make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"])
    alice = make_person("alice", "annotator")
    leases = at_once(*[lambda: lease_next_comparison(annotator=alice)] * 8)
    got = [lease.comparison_id for lease in leases if lease]
    assert len(got) == len(set(got))
    assert Assignment.objects.count() == len(got)
    assert sum(Comparison.objects.values_list("taken", flat=True)) == len(got)


def test_leases_that_ran_out_go_back_once():
    pool = make_pool(make_policy(), overlap=2)
    people = [make_person(f"annotator-{number}", "annotator") for number in range(2)]
    for number in range(20):
        make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"])
        for person in people:
            lease_next_comparison(annotator=person)
    Assignment.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    at_once(*[release_expired_leases] * 6)
    assert set(Comparison.objects.values_list("taken", flat=True)) == {0}
    assert set(Assignment.objects.values_list("status", flat=True)) == {"expired"}


@pytest.fixture
def alice():
    return make_person("alice", "annotator")


@pytest.fixture
def two_leases(alice):
    pool = make_pool(make_policy())
    for number in range(2):
        make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"])
    return [lease_next_comparison(annotator=alice) for _ in range(2)]


def test_one_answer_sent_many_times_at_once_is_one_ranking(alice, two_leases):
    first, _second = two_leases
    results = at_once(*[lambda: submit(first, alice, "key")] * 8)
    assert len({ranking.pk for ranking, _is_new in results}) == 1
    assert sum(is_new for _ranking, is_new in results) == 1
    assert Comparison.objects.get(pk=first.comparison_id).answered == 1


def test_two_tabs_cannot_both_answer(alice, two_leases):
    first, _second = two_leases
    results = at_once(*(lambda k=key: submit(first, alice, f"key-{k}") for key in range(6)))
    assert sum(isinstance(result, AlreadyAnswered) for result in results) == 5
    assert Ranking.objects.count() == Comparison.objects.get(pk=first.comparison_id).answered == 1


def test_one_key_for_two_answers_at_once_is_refused_once(alice, two_leases):
    results = at_once(*(lambda a=assignment: submit(a, alice, "key") for assignment in two_leases))
    assert sum(isinstance(result, KeyUsedTwice) for result in results) == 1
    assert Ranking.objects.count() == 1


def test_answering_and_skipping_at_once_leaves_one_of_them(alice, two_leases):
    for assignment in two_leases:
        at_once(
            lambda a=assignment: submit(a, alice, f"{a.pk}"),
            lambda a=assignment: skip_comparison(assignment_id=a.pk, annotator=alice, token=a.token, reason=""),
        )
        comparison = Comparison.objects.get(pk=assignment.comparison_id)
        assert comparison.taken == comparison.answered == Ranking.objects.filter(assignment=assignment).count()


def test_a_correction_sent_many_times_at_once_is_one_revision(alice, two_leases):
    first, _second = two_leases
    submit(first, alice, "key")

    def correct():
        answer = Answer(all_bad=True)
        return revise_ranking(assignment_id=first.pk, annotator=alice, idempotency_key="better", answer=answer)

    results = at_once(*[correct] * 6)
    assert len({ranking.pk for ranking, _is_new in results}) == 1
    assert sorted(Ranking.objects.values_list("revision", "is_current")) == [(1, False), (2, True)]


def test_a_snapshot_never_holds_an_answer_that_is_being_corrected(alice):
    policy = make_policy()
    pool = make_pool(policy)
    make_ranking(make_comparison(make_prompt(pool, "other"), ["a", "b"]), alice, [1, 2])
    for number in range(12):
        ranking = make_ranking(make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"]), alice, [1, 2])

        def correct(ranking=ranking):
            return revise_ranking(
                assignment_id=ranking.assignment_id,
                annotator=alice,
                idempotency_key=f"better-{ranking.pk}",
                answer=in_order(ranking.assignment),
            )

        snapshot, corrected = at_once(lambda: freeze_preferences(policy=policy), correct)
        assert not snapshot.rankings.filter(is_current=False).exists()
        assert isinstance(corrected, FrozenRanking) == snapshot.rankings.filter(pk=ranking.pk).exists()
