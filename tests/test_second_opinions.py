"""Doubtful rankings go back to another person: ahead of the queue, once, and never to the same one."""

import pytest

from annotate.models import AuditEvent, Comparison, Prompt, PromptPool, Ranking, User
from annotate.own_work import agreement_with_others
from annotate.progress import agreeing_pairs
from annotate.selectors import open_comparisons
from annotate.services.assignments import lease_next_comparison
from annotate.services.second_opinions import ask_again
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking
from trainer.generation import fresh_comparisons


@pytest.fixture
def cast(db):
    return make_cast()


@pytest.fixture
def pool(cast):
    return make_pool(make_policy(), k=2)


@pytest.fixture
def ranking(cast, pool):
    """Alice's answer to a comparison that was wanted from one person."""
    return make_ranking(make_comparison(make_prompt(pool, "One"), ["a", "b"]), cast["alice"], [1, 2])


def ask(*rankings) -> int:
    return ask_again(ranking_ids=[ranking.pk for ranking in rankings], most=9, why="run 7")


def test_it_asks_another_person_before_anything_else(cast, pool, ranking):
    fresh = make_comparison(make_prompt(pool, "Two"), ["c", "d"], priority=9)
    assert ask(ranking) == 1
    assert lease_next_comparison(annotator=cast["alice"]).comparison_id == fresh.pk, "never the same person twice"
    assert lease_next_comparison(annotator=cast["bob"]).comparison_id == ranking.assignment.comparison_id
    event = AuditEvent.objects.get(action="ask-again.comparisons")
    assert (event.actor, event.target, event.detail) == (None, "run 7", {"comparisons": 1})


def test_it_asks_once(ranking):
    assert ask(ranking) == 1
    assert ask(ranking) == 0
    assert AuditEvent.objects.filter(action="ask-again.comparisons").count() == 1


def test_it_asks_no_further_person_after_the_second_opinion(cast, ranking):
    ask(ranking)
    second = make_ranking(ranking.assignment.comparison, cast["bob"], [2, 1])
    assert ask(ranking, second) == 0


@pytest.mark.parametrize(
    "state",
    [
        *("free place", "still being answered", "person withdrew", "corrected"),
        *("withdrawn", "gold", "retired prompt", "paused pool"),
    ],
)
def test_it_leaves_alone_what_needs_nobody(pool, ranking, state):
    comparison = ranking.assignment.comparison
    if state == "free place":
        type(comparison).objects.filter(pk=comparison.pk).update(overlap=3)
    elif state == "withdrawn":
        type(comparison).objects.filter(pk=comparison.pk).update(is_withdrawn=True)
    elif state == "gold":
        type(comparison).objects.filter(pk=comparison.pk).update(kind="gold")
    elif state == "still being answered":
        type(comparison).objects.filter(pk=comparison.pk).update(overlap=2, taken=2)
    elif state == "person withdrew":
        User.objects.filter(pk=ranking.annotator_id).update(withdrawn_at=ranking.created_at)
    elif state == "corrected":
        Ranking.objects.filter(pk=ranking.pk).update(is_current=False)
    elif state == "retired prompt":
        Prompt.objects.filter(pk=comparison.prompt_id).update(retired_at=ranking.created_at)
    else:
        PromptPool.objects.filter(pk=pool.pk).update(status=PromptPool.Status.PAUSED)
    assert ask(ranking) == 0
    assert not AuditEvent.objects.exists()


def test_it_takes_the_first_that_can_be_asked(cast, pool, ranking):
    others = [
        make_ranking(make_comparison(make_prompt(pool, f"No {n}"), ["a", "b"]), cast["alice"], [1, 2]) for n in range(3)
    ]
    ask(ranking)  # asked already: it takes no slot from the next
    assert ask_again(ranking_ids=[each.pk for each in [ranking, *others[::-1]]], most=2, why="run 8") == 2
    asked = {each.assignment.comparison_id for each in (others[2], others[1], ranking)}
    assert set(Comparison.objects.exclude(asked_again_at=None).values_list("pk", flat=True)) == asked


def test_what_only_others_can_answer_is_no_part_of_the_buffer(cast, pool, ranking):
    ask(ranking)
    pool.policy.serving_epoch += 1  # as publishing does: its fresh comparisons have the same priority
    pool.policy.save()
    assert Comparison.objects.get(pk=ranking.assignment.comparison_id).priority == pool.policy.serving_epoch
    assert fresh_comparisons(pool) == 0
    assert not open_comparisons().exists()


def test_it_says_nothing_of_agreement(cast, pool, ranking):
    ask(ranking)
    make_ranking(ranking.assignment.comparison, cast["bob"], [2, 1])
    assert list(agreeing_pairs(pool)) == []
    assert agreement_with_others(cast["alice"]) == []
