"""The server is there and does not take an answer: it fails at it, or will have nothing from this person."""

import pytest
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session

from annotate.models import Ranking
from annotate.roles import Role
from tests.browser.test_outbox import stored_once, wait_until_fetched_ahead
from tests.browser.visit import intercept, make_work, ranks_as_shown
from tests.worlds import make_ranking


def fail_at(visit, assignment: int, kind: str = "ranking") -> list[str]:
    """Let the server answer 500 to this one, or to its revision. Returns the idempotency keys that come for it."""
    keys = []

    def fail(route):
        keys.append(route.request.headers["idempotency-key"])
        route.fulfill(status=500)

    visit.expected = ("500",)
    intercept(visit.page, f"**/{assignment}/{kind}/", fail)
    return keys


def let_pass(visit, seconds: int) -> None:
    """On the page's clock, with time between for what its timers asked of the server."""
    for _second in range(seconds):
        visit.page.clock.run_for(1000)
        visit.page.wait_for_timeout(50)


@pytest.mark.parametrize("way", ["at a click", "by itself"])
def test_an_answer_that_the_server_fails_at_is_set_aside_and_those_behind_it_go_on(open_browser, policy, way):
    make_work(policy, 2)
    visit = open_browser(path="/work/")
    visit.page.clock.install()
    visit.page.goto("/rank/")
    failing = visit.ready().shown
    keys = fail_at(visit, failing)
    notice = visit.page.locator("#notice")
    visit.press("ArrowLeft")
    behind = visit.wait_for_another_than(failing)
    with visit.page.expect_response(f"**/{behind}/ranking/"):
        visit.press("ArrowRight")
    visit.wait_for_text("1 waiting")
    assert stored_once(behind)
    assert not notice.is_visible()  # it may go on in a moment
    let_pass(visit, 15)
    visit.wait_for_text("Some answers are not stored yet: the server fails at them or does not reply.")
    visit.page.reload()
    visit.ready().wait_for_text("all others go on. 1 answer is kept in this browser until it can be sent.")
    if way == "at a click":
        notice.get_by_role("button", name="Try again now").click()
        visit.wait_for_text("It is still not stored.")
        visit.page.unroute_all()
        notice.get_by_role("button", name="Try again now").click()
    else:
        visit.page.unroute_all()
        visit.page.clock.run_for(300_000)
    visit.wait_until_sent()
    assert not notice.is_visible()
    assert stored_once(failing, behind)
    assert len(keys) >= 3
    assert set(keys) == {Ranking.objects.get(assignment=failing).idempotency_key}


def leave_unanswered(visit, assignment: int, status: int | None) -> list[str]:
    """Let this one time out: here, or with a `status` at what stands before the server. Returns its keys."""
    keys = []

    def wait(route):
        keys.append(route.request.headers["idempotency-key"])
        if status:
            route.fulfill(status=status)

    visit.expected = (str(status),)
    intercept(visit.page, f"**/{assignment}/ranking/", wait)
    return keys


def wait_until_set_aside(visit) -> None:
    for _second in range(400):
        if "not stored yet" in visit.page.locator("#notice").inner_text():
            return
        let_pass(visit, 1)
    raise AssertionError("it was never set aside")


# There an answer that took too long fails as one that was broken off does.
AS_IN_WEBKIT = """const { fetch } = window;
window.fetch = (...request) => fetch(...request).catch((error) => {
  throw error.name === "TimeoutError" ? new DOMException("Fetch is aborted", "AbortError") : error;
})"""


@pytest.mark.parametrize(("status", "script"), [(None, ""), (None, AS_IN_WEBKIT), (504, "")])
def test_an_answer_that_only_times_out_is_set_aside_once_another_goes_through(open_browser, policy, status, script):
    make_work(policy, 2)
    visit = open_browser(path="/work/")
    visit.page.add_init_script(script)
    visit.page.add_init_script(
        "const { timeout } = AbortSignal; AbortSignal.timeout = () => timeout.call(AbortSignal, window.patience ?? 1e3)"
    )
    visit.page.clock.install()
    visit.page.goto("/rank/")
    silent = visit.ready().shown
    wait_until_fetched_ahead(visit)
    keys = leave_unanswered(visit, silent, status)
    visit.press("ArrowLeft").wait_for_text("No connection: 1 answer is kept")  # as far as one can tell
    let_pass(visit, 20)
    assert "No connection" in visit.page.locator("#notice").inner_text()  # however often: nothing else went through
    behind = visit.wait_for_another_than(silent)
    with visit.page.expect_response(f"**/{behind}/ranking/"):
        visit.press("ArrowRight")
    wait_until_set_aside(visit)
    assert stored_once(behind)
    assert visit.page.locator("#saved").inner_text() == "1 waiting"
    visit.page.unroute_all()
    visit.page.evaluate("window.patience = 20_000")  # too late again, it would wait for minutes
    visit.page.locator("#notice").get_by_role("button", name="Try again now").click()
    visit.wait_until_sent()
    assert stored_once(silent, behind)
    assert set(keys) == {Ranking.objects.get(assignment=silent).idempotency_key}


def test_a_correction_waits_for_the_answer_that_the_server_fails_at(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    failing = visit.shown
    fail_at(visit, failing)
    visit.press("ArrowLeft")
    following = visit.wait_for_another_than(failing)
    visit.press("u")
    visit.wait_for_another_than(following)
    visit.press("ArrowRight")
    visit.wait_for_another_than(failing)
    visit.wait_for_text("2 waiting")
    visit.page.unroute_all()
    visit.wait_until_sent()
    assert list(Ranking.objects.order_by("revision").values_list("revision", "is_current")) == [(1, False), (2, True)]
    assert ranks_as_shown(failing) == [2, 1]


def test_a_correction_that_the_server_fails_at_is_waited_for_through_a_reload(open_browser, policy, cast):
    given = make_ranking(make_work(policy, 2, count=1).comparisons.get(), cast["alice"], [2, 1])  # A was better
    visit = open_browser(path=f"/work/{given.assignment_id}/").ready()
    keys = fail_at(visit, given.assignment_id, "revision")
    visit.press("ArrowRight").wait_for_text("1 waiting")
    visit.page.reload()
    visit.ready().press("ArrowLeft").wait_for_text("1 waiting")
    visit.page.unroute_all()
    visit.page.wait_for_url("**/work/")
    assert ranks_as_shown(given.assignment_id) == [2, 1]
    assert set(keys) == {Ranking.objects.get(revision=2).idempotency_key}


def test_who_may_rank_no_longer_is_told_so_and_not_to_sign_in(open_browser, policy, cast):
    make_work(policy, 2)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    visit.expected = ("403",)
    notice = visit.page.locator("#notice")
    cast["alice"].groups.clear()
    done = visit.shown
    visit.press("ArrowLeft").wait_for_text("The server takes nothing from this page now: somebody else has signed in")
    assert "1 answer is kept in this browser" in notice.inner_text()
    assert "igned out" not in notice.inner_text()
    notice.get_by_role("link", name="Load the page again").click()
    visit.wait_for_text("This page is not for your role")
    cast["alice"].groups.add(Group.objects.get(name=Role.ANNOTATOR))
    visit.page.goto("/rank/")
    visit.ready().wait_until_sent()
    assert stored_once(done)


def test_who_lost_the_token_of_the_page_sends_after_loading_it_again(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    visit.expected = ("403",)
    visit.context.clear_cookies(name="csrftoken")
    done = visit.shown
    visit.press("ArrowLeft")
    visit.page.get_by_role("link", name="Load the page again").click()
    visit.ready().wait_until_sent()
    assert stored_once(done)
    assert not visit.page.locator("#notice").is_visible()


def test_signing_in_again_leads_back_to_the_pool_that_was_chosen(open_browser, policy, cast):
    cast["alice"].set_password("a rather long sentence")
    cast["alice"].save()
    pool = make_work(policy, 2)
    address = f"/rank/?pool={pool.pk}"
    visit = open_browser(path=address).ready()
    visit.expected = ("401", "403")
    wait_until_fetched_ahead(visit)
    Session.objects.all().delete()
    visit.press("ArrowRight")
    visit.page.get_by_role("link", name="Sign in").click()
    visit.page.fill("[name=login]", "alice@example.org")
    visit.page.fill("[name=password]", "a rather long sentence")
    visit.press("Enter")
    visit.page.wait_for_url(lambda url: url.endswith(address))
    visit.ready().wait_until_sent()
