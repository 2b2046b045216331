"""Pages that one hopes not to see, or sees once: refusals, errors, empty lists, a training answer's own page."""

import pytest
from django.urls import reverse

from annotate.models import Comparison, PromptPool
from tests.browser.visit import LOOKS, violations
from tests.worlds import make_comparison, make_policy, make_pool, make_prompt, make_ranking


@pytest.fixture
def looking(open_browser):
    """`looking(person, scheme, language)`: a browser that complains of no status, since these pages have their own."""

    def opened(person: str | None, scheme: str, language: str):
        visit = open_browser(person, path="/healthz", color_scheme=scheme)
        visit.expected = ("status of 4", "status of 500")
        visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
        return visit

    return opened


def problems_on(visit, paths: list[str], status: int = 200) -> dict[str, list[str]]:
    """What axe finds on each of the pages; none are left out, none has another status."""
    found = {}
    for path in paths:
        assert visit.page.goto(path).status == status, path
        found[path] = violations(visit.page)
    return {path: problems for path, problems in found.items() if problems}


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_where_a_role_is_missing(looking, scheme, language):
    assert problems_on(looking("olaf", scheme, language), ["/rank/", "/people/"], 403) == {}


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_after_too_many_attempts(looking, settings, scheme, language):
    settings.ACCOUNT_RATE_LIMITS = {"login": "1/m/ip"}
    visit = looking(None, scheme, language)
    visit.page.goto("/account/login/")
    for status in (200, 429):
        visit.page.locator("input[name=login]").fill("alice@example.org")
        visit.page.locator("input[name=password]").fill("wrong")
        with visit.page.expect_navigation() as arrived:
            visit.press("Enter")
        assert arrived.value.status == status
        assert violations(visit.page) == []


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_where_something_broke(looking, monkeypatch, scheme, language):
    monkeypatch.setattr("annotate.views.work.own_numbers", lambda person: 1 / 0)
    assert problems_on(looking("alice", scheme, language), ["/work/"], 500) == {}


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_on_the_page_of_a_training_answer(looking, policy, cast, scheme, language):
    comparison = make_comparison(make_prompt(make_pool(policy, training_count=2), "p"), ["a", "b"])
    given = make_ranking(comparison, cast["alice"], [1, 2])
    Comparison.objects.update(kind="training", gold_ranks=given.ranks, gold_explanation="So `it` **is**.")
    assert problems_on(looking("alice", scheme, language), [reverse("rank_feedback", args=[given.assignment_id])]) == {}


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_on_lists_that_are_empty(looking, scheme, language):
    visit = looking("maria", scheme, language)
    lists = [reverse(name) for name in ("pools", "runs", "checkpoints", "preferences", "snapshots", "audit")]
    assert problems_on(visit, [*lists, reverse("changes"), reverse("work")]) == {}
    policy = make_policy()
    assert problems_on(visit, lists) == {}
    pool = PromptPool.objects.create(policy=policy, name="new")
    of_a_pool = ("pool", "pool_gold", "pool_guidelines", "pool_members", "pool_prompts")
    assert problems_on(visit, [reverse(name, args=[pool.pk]) for name in of_a_pool]) == {}
