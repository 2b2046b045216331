"""Who reads on keeps the comparison, who went away does not. The leases last seconds, which pass as they do."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Assignment, Ranking
from annotate.services.assignments import release_expired_leases
from tests.browser.test_outbox import stored_once, wait_until_fetched_ahead
from tests.browser.visit import lend_elsewhere, make_work

LEASE_SECONDS = 9


@pytest.fixture
def reader(open_browser, policy):
    """Alice before a comparison whose lease ends in nine seconds."""
    make_work(policy, 2, lease_minutes=1, asks_rationale=True)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    Assignment.objects.filter(pk=visit.shown).update(expires_at=timezone.now() + timedelta(seconds=LEASE_SECONDS))
    visit.page.evaluate("seconds => { document.querySelector('#stage form').dataset.seconds = seconds }", LEASE_SECONDS)
    return visit


def seconds_left(assignment: int) -> float:
    return (Assignment.objects.get(pk=assignment).expires_at - timezone.now()).total_seconds()


def move_the_mouse(visit, seconds: int) -> None:
    for n in range(2 * seconds):
        visit.page.mouse.move(200 + n, 300)
        visit.page.wait_for_timeout(500)


def test_it_renews_the_lease_of_who_reads_on(reader):
    done = reader.shown
    move_the_mouse(reader, LEASE_SECONDS + 2)
    release_expired_leases()
    assert seconds_left(done) > 0
    reader.press("ArrowLeft")
    reader.wait_for_another_than(done)
    reader.wait_until_sent()
    assert stored_once(done)


def test_it_renews_nothing_for_a_tab_that_was_left(reader):
    asked = []
    reader.page.on("request", lambda request: asked.append(request.url))
    reader.page.wait_for_timeout(1000 * (LEASE_SECONDS + 1))
    assert not any("renewal" in address for address in asked)
    assert seconds_left(reader.shown) < 0
    assert release_expired_leases() == 1


def test_it_says_at_once_that_a_comparison_was_lost_and_keeps_the_text(reader, cast):
    lost = reader.shown
    reader.press("w")
    reader.page.keyboard.type("because it is kind")
    reader.press("Escape")
    reader.press("s").page.locator("#skip-dialog").wait_for()
    lend_elsewhere(lost, cast["bob"])
    move_the_mouse(reader, 4)
    dialog = reader.page.locator("#problem-dialog")
    dialog.wait_for()
    assert "somebody else has that comparison now" in dialog.inner_text()
    assert "because it is kind" in dialog.locator("textarea").input_value()
    dialog.get_by_role("button", name="I have read it").click()
    assert reader.shown != lost
    assert not reader.page.locator("#skip-dialog").is_visible()  # it spoke of the one that is lost
    assert not Ranking.objects.exists()


def test_who_comes_back_after_the_lease_ran_out_has_it_still(reader):
    done = reader.shown
    Assignment.objects.filter(pk=done).update(expires_at=timezone.now() - timedelta(minutes=1))
    release_expired_leases()
    with reader.page.expect_response("**/renewal/"):
        move_the_mouse(reader, 6)
    assert reader.shown == done
    assert seconds_left(done) > 0
    assert Assignment.objects.get(pk=done).status == "leased"


def test_a_renewal_that_cannot_be_sent_loses_nothing(reader):
    done = reader.shown
    reader.context.set_offline(True)
    move_the_mouse(reader, 7)
    assert reader.shown == done
    reader.context.set_offline(False)
    reader.press("ArrowLeft")
    reader.wait_for_another_than(done)
    reader.wait_until_sent()
    assert stored_once(done)
