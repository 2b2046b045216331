"""Doubtful rankings go back to another person: ahead of the queue, once, and never to the same one."""

import pytest

from annotate.models import AuditEvent, Prompt, PromptPool
from annotate.services.assignments import lease_next_comparison
from annotate.services.second_opinions import ask_again
from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking


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
    return ask_again(ranking_ids=[ranking.pk for ranking in rankings], why="run 7")


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


@pytest.mark.parametrize("state", ["free place", "withdrawn", "gold", "retired prompt", "paused pool"])
def test_it_leaves_alone_what_needs_nobody(pool, ranking, state):
    comparison = ranking.assignment.comparison
    if state == "free place":
        type(comparison).objects.filter(pk=comparison.pk).update(overlap=3)
    elif state == "withdrawn":
        type(comparison).objects.filter(pk=comparison.pk).update(is_withdrawn=True)
    elif state == "gold":
        type(comparison).objects.filter(pk=comparison.pk).update(kind="gold")
    elif state == "retired prompt":
        Prompt.objects.filter(pk=comparison.prompt_id).update(retired_at=ranking.created_at)
    else:
        PromptPool.objects.filter(pk=pool.pk).update(status=PromptPool.Status.PAUSED)
    assert ask(ranking) == 0
    assert not AuditEvent.objects.exists()
