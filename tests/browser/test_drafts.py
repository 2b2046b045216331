"""What was begun and not sent comes back: an answer, a correction, every word of them."""

from datetime import timedelta

from django.utils import timezone

from annotate.models import Assignment, Ranking
from annotate.services.assignments import release_expired_leases
from annotate.services.snapshots import freeze_preferences
from tests.browser.test_outbox import kill_the_tab, wait_until_fetched_ahead
from tests.browser.visit import lend_elsewhere, make_work, ranks_as_shown
from tests.worlds import make_ranking


def has_draft(visit, assignment: int) -> bool:
    return visit.page.evaluate("id => Object.keys(localStorage).some(key => key.endsWith(`-${id}`))", assignment)


def test_it_keeps_what_was_begun_through_a_reload(open_browser, policy):
    make_work(policy, 4, asks_rationale=True, asks_spans=True, rationale_chips=["clearer"], strength_scale=3)
    visit = open_browser().ready()
    done = visit.shown
    visit.page.locator("#stage .completion > .text p").first.dblclick(position={"x": 8, "y": 8})
    visit.press("j", "2", "1", "t", "w")
    visit.page.get_by_text("clearer").click()
    visit.page.locator("textarea[name=rationale]").fill("because it is kind")
    visit.page.reload()
    visit.ready().wait_for_text("What you had begun is back.")
    assert visit.shown == done
    visit.press("4", "3", "Enter")  # the mark stands on the first that has no rank
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    ranking = Ranking.objects.get()
    assert ranks_as_shown(done) == [2, 1, 4, 3]
    assert (ranking.rationale, ranking.chips, ranking.strength) == ("because it is kind", ["clearer"], 1)
    assert [span["label"] for span in ranking.spans] == ["good"]
    assert not has_draft(visit, done)


def test_after_a_reload_the_equals_sign_ties_with_what_was_ranked_last(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    done = visit.shown
    visit.press("b", "1", "a", "2")  # A comes last, and not next to C
    visit.page.reload()
    visit.ready().wait_for_text("What you had begun is back.")
    visit.press("=", "3", "Enter")
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [2, 1, 2, 3]


def test_it_keeps_a_better_answer_that_was_begun_when_the_tab_is_killed(open_browser, chromium, policy):
    make_work(policy, 2, asks_better_answer=True)
    visit = open_browser().ready()
    done = visit.shown
    visit.press("y")
    visit.page.keyboard.type("Half a sen")
    visit.page.wait_for_function("() => JSON.stringify(localStorage).includes('Half a sen')")
    kill_the_tab(visit, chromium)
    visit.ready()
    assert visit.shown == done
    visit.page.locator("textarea[name=better_answer]").press_sequentially("tence.")
    visit.press("Escape", "ArrowLeft")
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert Ranking.objects.get().demonstration.text == "Half a sentence."


def begin_a_correction(visit) -> int:
    """Rank four as 1 2 3 4 with a reason, have it back, make it 4 2 3 4 without one; returns the assignment."""
    done = visit.shown
    visit.press("w")
    visit.page.keyboard.type("because it is kind")
    visit.press("Escape", *"1234", "Enter")
    following = visit.wait_for_another_than(done)
    visit.wait_until_sent()
    visit.press("u")
    assert visit.wait_for_another_than(following) == done
    visit.press("a", "4")
    visit.page.locator("textarea[name=rationale]").fill("")
    return done


def test_it_keeps_a_correction_that_was_begun_through_a_reload(open_browser, policy):
    make_work(policy, 4, asks_rationale=True)
    visit = open_browser().ready()
    done = begin_a_correction(visit)
    visit.page.reload()
    visit.ready().wait_for_text("What you had begun is back.")
    assert visit.shown == done
    visit.press("b", "1", "Enter")
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [3, 1, 2, 3]  # 4 1 3 4, without the place that nobody took
    corrected = Ranking.objects.get(is_current=True)
    assert (corrected.revision, corrected.rationale) == (2, "")
    assert not has_draft(visit, done)
    visit.page.reload()
    assert visit.ready().shown != done


def test_it_keeps_a_correction_begun_under_my_work_there_and_undoes_it(open_browser, policy, cast):
    pool = make_work(policy, 4, count=2)
    given = make_ranking(pool.comparisons.first(), cast["alice"], [4, 3, 2, 1])  # shown in the reverse order: 1 2 3 4
    visit = open_browser(path=f"/work/{given.assignment_id}/").ready()
    visit.press("a", "4")
    visit.page.goto("/rank/")
    assert visit.ready().shown != given.assignment_id
    visit.page.goto(f"/work/{given.assignment_id}/")
    visit.ready().wait_for_text("What you had begun is back.")
    visit.press("u", "Enter").wait_for_text("Nothing was changed.")
    visit.press("a", "4", "Enter")
    visit.page.wait_for_url("**/work/")
    assert ranks_as_shown(given.assignment_id) == [3, 1, 2, 3]  # 4 2 3 4, without the place that nobody took
    assert not has_draft(visit, given.assignment_id)


def test_it_says_that_a_snapshot_was_quicker_than_a_correction_that_was_begun(open_browser, policy):
    make_work(policy, 4, asks_rationale=True)
    visit = open_browser().ready()
    visit.expected = ("404",)
    done = begin_a_correction(visit)
    freeze_preferences(policy=policy)
    visit.page.reload()
    visit.ready().wait_for_text("A snapshot has used this answer already; it can no longer be changed.")
    assert visit.shown != done
    assert not has_draft(visit, done)


def begin_and_leave(visit) -> int:
    """Write half a reason and close the page; returns the assignment."""
    begun = visit.shown
    visit.press("w")
    visit.page.keyboard.type("because it is ki")
    visit.page.wait_for_function("() => JSON.stringify(localStorage).includes('because it is ki')")
    visit.page.goto("about:blank")
    return begun


def test_what_was_begun_comes_back_after_the_lease_ran_out(open_browser, policy):
    make_work(policy, 2, asks_rationale=True)
    visit = open_browser().ready()
    begun = begin_and_leave(visit)
    Assignment.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    release_expired_leases()
    visit.page.goto("/rank/")
    visit.ready()
    if visit.shown != begun:  # the server drew another first
        other = visit.shown
        wait_until_fetched_ahead(visit)
        visit.press("ArrowRight")
        visit.wait_for_another_than(other)
    assert visit.shown == begun
    visit.wait_for_text("What you had begun is back.")
    assert visit.page.locator("textarea[name=rationale]").input_value() == "because it is ki"


def test_what_was_begun_on_a_comparison_that_somebody_else_has_now_is_kept_until_it_was_read(
    open_browser, policy, cast
):
    make_work(policy, 2, asks_rationale=True)
    visit = open_browser().ready()
    begun = begin_and_leave(visit)
    lend_elsewhere(begun, cast["bob"])
    visit.page.goto("/rank/")
    dialog = visit.ready().page.locator("#problem-dialog")
    dialog.wait_for()
    assert "somebody else has that comparison now" in dialog.inner_text()
    assert dialog.locator("textarea").input_value() == "because it is ki"
    assert not has_draft(visit, begun)
    dialog.get_by_role("button", name="I have read it").click()
    visit.page.reload()
    visit.ready()
    assert not dialog.is_visible()


def test_an_answer_had_back_is_without_what_another_tab_began_of_it(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    done = visit.shown
    visit.press(*"1234", "Enter")
    following = visit.wait_for_another_than(done)
    visit.wait_until_sent()
    first, visit.page = visit.page, visit.context.new_page()
    visit.page.goto(f"/work/{done}/")
    visit.ready().press("a", "4")
    visit.page.wait_for_function("id => Object.keys(localStorage).some(key => key.endsWith(`-${id}`))", arg=done)
    visit.page.close()
    visit.page = first
    visit.press("u")
    assert visit.wait_for_another_than(following) == done
    visit.press("Enter")
    assert visit.wait_for_another_than(done) == following
    visit.page.wait_for_timeout(500)
    assert Ranking.objects.count() == 1


def test_a_correction_that_was_begun_comes_again_after_an_earlier_answer_was_had_back(open_browser, policy):
    make_work(policy, 4, asks_rationale=True)
    visit = open_browser().ready()
    earlier = visit.shown
    visit.press(*"1234", "Enter")
    done = visit.wait_for_another_than(earlier)
    visit.press(*"1234", "Enter")
    following = visit.wait_for_another_than(done)
    visit.press("u")
    assert visit.wait_for_another_than(following) == done
    visit.press("w")
    visit.page.keyboard.type("because it is kind")
    visit.press("Escape", "u")
    assert visit.wait_for_another_than(done) == earlier
    visit.press("a", "4", "Enter")
    assert visit.wait_for_another_than(earlier) == done
    visit.press("Enter")
    assert visit.wait_for_another_than(done) == following
    visit.wait_until_sent()
    assert Ranking.objects.get(assignment=done, is_current=True).rationale == "because it is kind"
