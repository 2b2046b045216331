"""Nothing is lost and nothing is sent twice, whatever breaks: each of these breaks it for real."""

import os
import signal
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.sessions.models import Session
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.servers.basehttp import WSGIRequestHandler
from django.test.testcases import LiveServerThread
from django.utils import timezone

from annotate.models import Assignment, Comparison, Ranking
from annotate.services.assignments import release_expired_leases
from tests.browser.conftest import ARGUMENTS, CHROMIUM, let_requests_end
from tests.browser.visit import (
    RICH,
    Visit,
    intercept,
    lend_elsewhere,
    make_training,
    make_work,
    ranks_as_shown,
    wait_until,
)
from tests.worlds import make_ranking


class OneRequestAConnection(WSGIRequestHandler):
    """So that a stopped server answers nobody, not even on a connection that stays open."""

    protocol_version = "HTTP/1.0"


class Server(LiveServerThread):
    """A live server that can be stopped and started again on the same port."""

    def __init__(self, port: int = 0):
        super().__init__("localhost", StaticFilesHandler, port=port)
        self.daemon = True
        self.start()
        self.is_ready.wait()

    def _create_server(self, connections_override=None):
        address = (self.host, self.port)
        return self.server_class(address, OneRequestAConnection, connections_override=connections_override)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def stored_once(*assignments: int) -> bool:
    found = Ranking.objects.filter(assignment__in=assignments).values_list("assignment", flat=True)
    return sorted(found) == sorted(assignments)


def answer_offline(visit, count: int) -> list[int]:
    """Answer what is on the stage and the two that were fetched ahead, without a network."""
    wait_until_fetched_ahead(visit)
    visit.context.set_offline(True)
    done = []
    for n in range(count):
        done.append(visit.wait_for_another_than(done[-1] if done else 0))
        visit.press("ArrowLeft")
        visit.page.wait_for_function("n => document.getElementById('saved').textContent === `${n} waiting`", arg=n + 1)
    return done


HELD = """async () => {
  const channel = new BroadcastChannel("whetstone-locks");
  const answers = new Promise((resolve) => (channel.onmessage = ({ data }) => Array.isArray(data) && resolve(data)));
  channel.postMessage("who");
  const names = navigator.locks ? (await navigator.locks.query()).held.map(({ name }) => name) : await answers;
  return names.filter((name) => name.startsWith("whetstone-comparison-")).length;
}"""


def wait_until_fetched_ahead(visit) -> None:
    """Until this browser holds three comparisons: Playwright's own waiting takes a promise for a yes."""
    for _attempt in range(400):
        if visit.page.evaluate(HELD) >= 3:
            return
        visit.page.wait_for_timeout(50)
    raise AssertionError("the next two comparisons never came")


def test_it_keeps_answers_without_a_network_and_sends_each_once_when_it_is_back(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    done = answer_offline(visit, 3)
    assert not Ranking.objects.exists()
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert stored_once(*done)


def test_it_asks_the_browser_to_keep_answers_once_some_wait_and_not_before(open_browser, policy):
    """Firefox passes the question on to the person, who would not know what for."""
    make_work(policy, 2)
    visit = open_browser(path="/work/")
    visit.page.add_init_script("window.asked = 0; StorageManager.prototype.persist = async () => (asked += 1) > 0")
    visit.page.goto("/rank/")
    first = visit.ready().shown
    visit.press("ArrowLeft").wait_for_another_than(first)
    visit.wait_until_sent()
    assert visit.page.evaluate("asked") == 0
    answer_offline(visit, 2)
    visit.wait_for_text("No connection: 2 answers are kept")
    assert visit.page.evaluate("asked") == 1


def test_it_says_so_when_nothing_is_left_and_the_network_is_gone(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    assert visit.page.locator("#saved").inner_text() == ""  # nothing was yet
    answer_offline(visit, 1)
    visit.wait_for_text("No connection: 1 answer is kept in this browser and will be sent automatically.")
    visit.press("l").wait_for_text("The guidelines cannot be loaded now.")
    visit.press("Escape", "ArrowLeft").wait_for_text("2 waiting")
    visit.press("ArrowLeft").wait_for_text("3 waiting")
    visit.wait_for_text("Nothing more was fetched. It goes on when the connection is back.")
    visit.wait_for_text("No connection: 3 answers are kept in this browser and will be sent automatically.")
    visit.context.set_offline(False)
    visit.ready().wait_until_sent()
    visit.press("l").wait_for_text("Be kind.")


def test_it_keeps_answers_through_a_reload(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.expected = ("net::ERR_FAILED",)
    done = answer_offline(visit, 2)
    intercept(visit.page, "**/ranking/", lambda route: route.abort())  # else the page that ends may send them still
    visit.context.set_offline(False)
    visit.page.goto("/rank/")
    visit.ready().wait_for_text("2 waiting")
    visit.page.unroute("**/ranking/")
    visit.page.evaluate("dispatchEvent(new Event('focus'))")
    visit.wait_until_sent()
    assert stored_once(*done)


@pytest.mark.parametrize("k", [2, 3])
def test_where_the_browser_keeps_nothing_the_form_sends_itself(open_browser, policy, k):
    make_work(policy, k)
    visit = open_browser(path="/work/")
    visit.page.add_init_script("IDBFactory.prototype.open = () => { throw new DOMException('No.', 'SecurityError'); }")
    visit.page.goto("/rank/")
    visit.wait_for_text("This browser keeps nothing for this site")
    for number, card in enumerate(visit.page.locator(".completion").all() if k > 2 else [], start=1):
        card.locator(f'input[type="radio"][value="{number}"]').check(force=True)
    with visit.page.expect_navigation():
        visit.page.locator("#stage button.submit, #stage button[value=first]").click()
    assert Ranking.objects.count() == 1
    assert sorted(Ranking.objects.get().ranks.values()) == list(range(1, k + 1))


def processes(browser) -> dict[int, str]:
    """What runs of this Chromium: process id to its kind."""
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return {process["id"]: process["type"] for process in found}


def kill_the_tab(visit, browser) -> None:
    """Kill the process that draws the page, as a machine out of memory would, and open the page in a new tab."""
    with visit.page.expect_event("crash"):
        for process, kind in processes(browser).items():
            if kind == "renderer":
                with suppress(ProcessLookupError):  # one of an earlier test that was just ending
                    os.kill(process, signal.SIGKILL)
    visit.page = visit.context.new_page()
    visit.page.goto("/rank/")


def test_it_keeps_answers_when_the_tab_is_killed(open_browser, chromium, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.expected = ("ERR_FAILED",)
    intercept(visit.page, "**/ranking/", lambda route: route.abort())
    done = visit.shown
    visit.press("ArrowLeft")
    visit.wait_for_text("1 waiting")
    kill_the_tab(visit, chromium)
    visit.ready().wait_until_sent()
    assert stored_once(done)


def test_it_keeps_answers_when_the_whole_browser_is_killed(chromium, live_server, cast, policy, tmp_path):
    """Killed a moment after the key; the next start finds the answer on the disk and sends it."""
    make_work(policy, 2)
    start = partial(
        chromium.browser_type.launch_persistent_context, tmp_path, executable_path=CHROMIUM, args=ARGUMENTS
    )  # fmt: skip
    visit = Visit(chromium, live_server.url, cast["alice"], open_context=start)
    visit.ready()
    intercept(visit.page, "**/ranking/", lambda route: route.abort())
    done = visit.shown
    visit.press("ArrowLeft")
    visit.wait_for_text("1 waiting")
    [browser] = [process for process, kind in processes(visit.context.browser).items() if kind == "browser"]
    os.kill(browser, signal.SIGKILL)
    visit.page.wait_for_event("close")
    (tmp_path / "SingletonLock").unlink(missing_ok=True)
    visit = Visit(chromium, live_server.url, cast["alice"], open_context=start)
    visit.ready().wait_until_sent()
    assert stored_once(done)
    visit.close()
    let_requests_end()
    assert visit.problems == []


def test_it_loses_no_lease_when_a_page_is_reloaded(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    before = set(Assignment.objects.values_list("id", flat=True))
    visit.page.reload()
    visit.ready()
    wait_until_fetched_ahead(visit)
    assert set(Assignment.objects.values_list("id", flat=True)) == before


def test_it_sends_after_the_session_ended_and_the_person_signed_in_again(open_browser, policy, cast):
    make_work(policy, 2)
    cast["alice"].set_password("a rather long sentence")
    cast["alice"].save()
    visit = open_browser()
    visit.expected = ("401", "403")
    visit.ready()
    wait_until_fetched_ahead(visit)
    Session.objects.all().delete()
    done = visit.shown
    visit.press("ArrowRight")
    visit.page.locator("#notice a").click()
    visit.page.fill("[name=login]", "alice@example.org")
    visit.page.fill("[name=password]", "a rather long sentence")
    visit.press("Enter")
    visit.page.wait_for_url("**/rank/")
    visit.ready().wait_until_sent()
    assert stored_once(done)
    assert ranks_as_shown(done) == [2, 1]


def test_who_is_signed_out_before_any_answer_is_told_of_none(open_browser, policy):
    make_work(policy, 2, count=1)
    visit = open_browser()
    visit.expected = ("401", "403")
    visit.ready()
    Session.objects.all().delete()
    visit.wait_for_text("You are signed out. Sign in")
    visit.page.evaluate("dispatchEvent(new Event('focus'))")  # nothing waits: that alone is no sign of a session
    visit.page.wait_for_timeout(500)
    assert visit.page.locator("#notice").is_visible()
    assert "Saved" not in visit.all_said
    visit.sign_in()  # as if in another window
    visit.page.locator("#notice").wait_for(state="hidden")


def test_it_never_sends_one_persons_answers_as_anothers(open_browser, policy, cast):
    """Alice's tab stays open while Bob signs in beside it, and again while she does."""
    make_work(policy, 2, count=12, overlap=2)
    visit = open_browser()
    visit.expected = ("403",)
    visit.ready()
    done = answer_offline(visit, 1)
    visit.person = cast["bob"]
    visit.sign_in()
    visit.context.set_offline(False)
    visit.wait_for_text("somebody else has signed in in this browser")
    visit.wait_for_text("1 answer is kept in this browser until it can be sent.")
    tab = visit.context.new_page()
    tab.goto("/rank/")
    tab.wait_for_selector("html[data-ready]")
    tab.keyboard.press("ArrowLeft")  # her own answer goes after all that the tab would send before
    tab.wait_for_function("() => document.getElementById('saved').textContent === 'Saved'")
    assert Ranking.objects.get().annotator == cast["bob"]
    assert not Assignment.objects.filter(annotator=cast["bob"], pk=visit.shown).exists()
    tab.close()
    visit.person = cast["alice"]
    visit.sign_in()
    visit.page.evaluate("dispatchEvent(new Event('focus'))")
    visit.wait_until_sent()
    assert stored_once(*done)
    assert Ranking.objects.get(assignment=done[0]).annotator == cast["alice"]


def test_a_tab_that_waits_for_an_answer_hears_that_another_one_sent_it(open_browser, policy, cast):
    pool = make_work(policy, 2, count=12)
    given = make_ranking(pool.comparisons.first(), cast["alice"], [2, 1])
    sender = open_browser().ready()
    tab = sender.context.new_page()
    tab.goto(f"/work/{given.assignment_id}/")
    tab.wait_for_selector("html[data-ready]")
    intercept(tab, "**/revision/", lambda route: route.abort())
    sender.expected = ("net::ERR_FAILED",)
    sender.context.on("weberror", lambda error: sender.problems.append(str(error)))
    tab.keyboard.press("ArrowRight")
    sender.wait_for_text("1 waiting")
    sender.page.evaluate("dispatchEvent(new Event('focus'))")
    tab.wait_for_url("**/work/")
    assert ranks_as_shown(given.assignment_id) == [2, 1]


def test_it_sends_once_the_stopped_server_is_back(chromium, cast, policy):
    make_work(policy, 2)
    server = Server()
    visit = Visit(chromium, server.url, cast["alice"])
    try:
        visit.ready()
        wait_until_fetched_ahead(visit)
        server.terminate()
        done = [visit.shown]
        visit.press("ArrowLeft")
        visit.wait_for_text("1 waiting")
        done.append(visit.wait_for_another_than(done[0]))
        visit.press("ArrowRight")
        visit.wait_for_text("2 waiting")
        server = Server(server.port)
        visit.wait_until_sent()
        assert stored_once(*done)
    finally:
        visit.close()
        let_requests_end()
        server.terminate()
    assert visit.problems == []


def test_it_sends_once_though_the_first_response_never_came(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    lost = []

    def lose_the_response(route):
        route.fetch()
        lost.append(route.request.url)
        route.abort()

    intercept(visit.page, "**/ranking/", lose_the_response, times=1)
    visit.expected = ("ERR_FAILED",)
    done = visit.shown
    visit.press("ArrowLeft")
    visit.wait_for_text("1 waiting")
    visit.wait_until_sent()
    assert lost
    assert stored_once(done)


def test_it_sends_skips_and_corrections_once_as_well(open_browser, policy, monkeypatch):
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 0)
    make_work(policy, 2)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    corrected = visit.shown
    visit.press("ArrowLeft")
    skipped = visit.wait_for_another_than(corrected)
    visit.wait_until_sent()
    wait_until_fetched_ahead(visit)
    visit.context.set_offline(True)
    visit.press("u")
    visit.wait_for_another_than(skipped)
    visit.press("ArrowRight")
    visit.wait_for_text("1 waiting")
    visit.wait_for_another_than(corrected)
    visit.press("s", "1")
    visit.wait_for_text("2 waiting")
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert ranks_as_shown(corrected) == [2, 1]
    assert Ranking.objects.count() == 2
    assert Assignment.objects.get(pk=skipped).status == "skipped"


def test_a_skip_waits_once_it_should_have_gone(open_browser, policy, monkeypatch):
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 1)
    make_work(policy, 2)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    visit.context.set_offline(True)
    skipped = visit.shown
    visit.press("s", "1").wait_for_text("Skipped")
    visit.wait_for_text("1 waiting")
    visit.wait_for_text("No connection: 1 answer is kept in this browser and will be sent automatically.")
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert Assignment.objects.get(pk=skipped).status == "skipped"


def test_a_skip_that_is_sent_meanwhile_does_not_end_a_correction(open_browser, policy, monkeypatch):
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 0)
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.expected = ("ERR_FAILED",)
    intercept(visit.page, "**/skip/", lambda route: route.abort())  # until the correction is there
    done = visit.shown
    visit.press("ArrowLeft")
    skipped = visit.wait_for_another_than(done)
    visit.wait_until_sent()
    visit.press("s", "1")
    visit.wait_for_another_than(skipped)
    visit.page.goto(f"/work/{done}/")
    visit.ready().wait_for_text("1 waiting")
    visit.page.unroute("**/skip/")
    visit.page.wait_for_function("() => document.getElementById('saved').textContent === ''")
    assert Assignment.objects.get(pk=skipped).status == "skipped"
    assert visit.shown == done
    visit.press("ArrowRight")
    visit.page.wait_for_url("**/work/")
    assert ranks_as_shown(done) == [2, 1]


def test_it_gives_two_tabs_different_comparisons_and_sends_each_answer_once(open_browser, policy):
    make_work(policy, 2, count=12)
    first = open_browser().ready()
    wait_until_fetched_ahead(first)
    tab = first.context.new_page()
    tab.goto("/rank/")
    tab.wait_for_selector("html[data-ready]")  # the server draws the first tab's; the script puts it away
    tab.wait_for_selector("#stage form")
    other = int(tab.get_attribute("#stage form", "data-assignment"))
    assert other != first.shown
    first.context.set_offline(True)
    done = [first.shown, other]
    first.press("ArrowLeft")
    tab.keyboard.press("ArrowRight")
    first.wait_for_text("2 waiting")
    first.context.set_offline(False)
    first.wait_until_sent()
    assert stored_once(*done)
    assert ranks_as_shown(other) == [2, 1]


@pytest.fixture
def over_plain_http(chromium, live_server, cast):
    """The page as a browser has it there, in all that concerns it: without Web Locks."""
    visits = []

    def start(**options):
        context = chromium.new_context(**options)
        context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', {get: () => undefined})")
        return context

    def opened() -> Visit:
        visits.append(Visit(chromium, live_server.url, cast["alice"], open_context=start))
        return visits[-1].ready()

    yield opened
    for visit in visits:
        visit.close()
    let_requests_end()
    assert [problem for visit in visits for problem in visit.problems] == []


def test_every_answer_is_sent_over_plain_http(over_plain_http, policy):
    make_work(policy, 2)
    visit = over_plain_http()
    assert visit.page.evaluate("navigator.locks === undefined")
    done = answer_offline(visit, 2)
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert stored_once(*done)
    last = visit.shown
    visit.press("ArrowLeft").wait_for_another_than(last)
    visit.wait_until_sent()
    assert stored_once(last)


def test_feedback_comes_over_plain_http(over_plain_http, policy):
    make_training(policy)
    over_plain_http().press("ArrowLeft").wait_for_text("The right order")


def test_two_tabs_have_different_comparisons_over_plain_http(over_plain_http, policy):
    make_work(policy, 2, count=12)
    first = over_plain_http()
    wait_until_fetched_ahead(first)
    tab = first.context.new_page()
    tab.goto("/rank/")
    tab.wait_for_selector("html[data-ready]")  # the server draws the first tab's; the script puts it away
    tab.wait_for_selector("#stage form")
    assert int(tab.get_attribute("#stage form", "data-assignment")) != first.shown


def answer_past_the_lease(open_browser, policy) -> tuple[Visit, list[int]]:
    """A page without a network with three answers that wait, and whose leases have run out."""
    make_work(policy, 2)
    visit = open_browser().ready()
    done = answer_offline(visit, 3)
    Assignment.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    assert release_expired_leases() == 3
    return visit, done


def test_a_comparison_lent_anew_just_before_its_answer_came_is_not_shown_after_it(open_browser, policy):
    visit, done = answer_past_the_lease(open_browser, policy)
    answers, lent, are_late = [], [], [True]
    intercept(visit.page, "**/ranking/", lambda route: answers.append(route) if are_late else route.continue_())
    intercept(
        visit.page,
        "**/rank/next/",
        lambda route: lent.append((route, route.fetch())) if are_late else route.continue_(),
    )
    visit.context.set_offline(False)
    wait_until(visit.page, lambda: answers and lent)
    assert any(f'data-assignment="{one}"' in lent[0][1].text() for one in done)
    are_late.clear()
    for route in answers:
        route.continue_()
    visit.wait_until_sent()
    for route, response in lent:
        route.fulfill(response=response)
    visit.page.wait_for_selector("#stage form")
    assert visit.shown not in done


def test_an_answer_that_waited_longer_than_its_lease_counts(open_browser, policy):
    visit, done = answer_past_the_lease(open_browser, policy)
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert stored_once(*done)
    visit.page.wait_for_selector("#stage form")
    assert visit.shown not in done  # and none of them comes to be ranked again


def test_what_was_answered_on_another_device_comes_no_second_time(open_browser, policy):
    """Both have the same three, since whoever opens the page anew gets back what they hold."""
    make_work(policy, 2, count=12)
    phone, desk = open_browser().ready(), open_browser()
    phone.expected = ("409",)
    wait_until_fetched_ahead(phone)
    wait_until_fetched_ahead(desk.ready())
    done = []
    for _n in range(3):
        done.append(desk.wait_for_another_than(done[-1] if done else 0))
        desk.press("ArrowLeft")
    desk.wait_for_another_than(done[-1])
    desk.wait_until_sent()
    assert phone.shown == done[0]
    phone.press("ArrowRight")
    dialog = phone.page.locator("#problem-dialog")
    dialog.wait_for()
    assert "on another device" in dialog.inner_text()
    dialog.get_by_role("button", name="I have read it").click()
    phone.page.wait_for_function(
        "done => { const form = document.querySelector('#stage form');"
        " return form && !done.includes(Number(form.dataset.assignment)) }",
        arg=done,
    )
    phone.press("ArrowRight")
    phone.wait_until_sent()
    assert stored_once(*done)
    assert Ranking.objects.count() == 4


KEEP_THE_DISK_BUSY = """() => {
  indexedDB.open("whetstone", 1).onsuccess = ({ target }) => {
    window.answers = (mode) => target.result.transaction("answers", mode).objectStore("answers");
    const store = answers("readwrite");
    const holdOn = () => { if (!window.diskIsFree) store.count().onsuccess = holdOn; };
    holdOn();
  };
}"""
COUNT_WHAT_IS_KEPT = """() => new Promise((resolve) => {
  window.diskIsFree = true;
  answers("readonly").count().onsuccess = ({ target }) => resolve(target.result);
})"""


def test_the_dialog_of_a_refused_answer_closes_at_once_however_slow_the_disk(open_browser, policy, cast):
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.expected = ("409",)
    lend_elsewhere(visit.shown, cast["bob"])
    dialog = visit.press("ArrowLeft").page.locator("#problem-dialog")
    dialog.wait_for()
    visit.page.evaluate(KEEP_THE_DISK_BUSY)
    visit.page.wait_for_function("() => window.answers")
    dialog.get_by_role("button", name="I have read it").click()
    assert not dialog.is_visible()  # else the next key would be the dialog's
    assert visit.page.evaluate(COUNT_WHAT_IS_KEPT) == 0  # behind the dropping of that one
    assert not dialog.is_visible()


def test_it_explains_a_stale_lease_and_keeps_the_text(open_browser, policy, cast):
    make_work(policy, 2, asks_rationale=True)
    visit = open_browser().ready()
    visit.expected = ("409",)
    done = visit.shown
    visit.press("w")
    visit.page.keyboard.type("because it is kind")
    visit.press("Escape")
    lend_elsewhere(done, cast["bob"])
    visit.press("ArrowLeft")
    dialog = visit.page.locator("#problem-dialog")
    dialog.wait_for()
    assert "the time is over" in dialog.inner_text()
    assert dialog.locator("textarea").input_value() == "because it is kind\n\nA > B"
    dialog.get_by_role("button", name="I have read it").click()
    dialog.wait_for(state="hidden")
    assert visit.page.locator("#saved").inner_text() == ""  # and nothing was saved
    assert not Ranking.objects.exists()


@pytest.mark.parametrize(("k", "keys"), [(2, ["ArrowUp"]), (4, ["0", "Enter"])])
def test_a_refused_all_bad_is_kept_as_that(open_browser, policy, cast, k, keys):
    make_work(policy, k)
    visit = open_browser().ready()
    visit.expected = ("409",)
    lend_elsewhere(visit.shown, cast["bob"])
    dialog = visit.press(*keys).page.locator("#problem-dialog")
    dialog.wait_for()
    assert dialog.locator("textarea").input_value() == "All bad"


def test_a_refused_answer_is_kept_with_all_that_was_chosen(open_browser, policy, cast):
    make_work(policy, 4, flags=["untrue"], strength_scale=3, **RICH)
    visit = open_browser().ready()
    visit.expected = ("409",)
    stage = visit.page.locator("#stage")
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    stage.get_by_label("untrue").first.check()
    stage.locator(".axis").first.get_by_text("4").click()
    stage.get_by_label("clearer").check()
    visit.page.evaluate("getSelection().selectAllChildren(document.querySelectorAll('#stage .completion .text p')[1])")
    word = visit.words()[1]
    visit.press("j")
    stage.locator(".marks li").wait_for()
    visit.press("t", "1", "2", "3", "4")
    lend_elsewhere(visit.shown, cast["bob"])
    dialog = visit.press("Enter").page.locator("#problem-dialog")
    dialog.wait_for()
    assert dialog.locator("textarea").input_value().splitlines() == [
        *("A > B > C > D", "A Flags untrue", "A helpful 4", f"B good: “{word}”", "clearer"),
        "How much better is the first than the next? slightly better",
    ]


def test_a_skip_of_what_somebody_else_has_meanwhile_needs_no_words(open_browser, policy, cast, monkeypatch):
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 1)
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.expected = ("409",)
    wait_until_fetched_ahead(visit)
    visit.context.set_offline(True)
    skipped = visit.shown
    visit.press("s", "1").wait_for_text("1 waiting")
    lend_elsewhere(skipped, cast["bob"])
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert not visit.page.locator("#problem-dialog").is_visible()


def test_it_says_when_there_is_nothing_and_shows_what_comes(open_browser, policy):
    pool = make_work(policy, 2, count=1)
    visit = open_browser().ready()
    differences = visit.page.get_by_role("button", name="Differences")
    assert differences.is_visible()
    visit.press("ArrowLeft")
    visit.wait_for_text("Nothing to rank at the moment")
    visit.wait_until_sent()
    assert not differences.is_visible()
    visit.page.reload()
    visit.wait_for_text("Nothing to rank at the moment")
    assert not differences.is_visible()
    Comparison.objects.filter(pool=pool).update(overlap=2)
    Assignment.objects.all().delete()
    Comparison.objects.update(taken=0, answered=0)
    visit.page.wait_for_selector("#stage form", timeout=20_000)
    assert differences.is_visible()


@pytest.mark.parametrize("people", [3])
def test_it_keeps_people_apart(open_browser, policy, cast, people):
    make_work(policy, 2, count=12)
    visits = [open_browser(name).ready() for name in ("alice", "bob", "maria")[:people]]
    assert len({visit.shown for visit in visits}) == people
