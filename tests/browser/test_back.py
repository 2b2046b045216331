"""The browser's Back: it closes what lies over the page, and leaves the page where nothing does."""

import pytest

from tests.browser.visit import make_work


def come_from_my_work(open_browser, policy, **options):
    make_work(policy, 4, texts=["word " * 400] * 4)
    visit = open_browser(path="/work/", **options)
    visit.page.goto("/rank/")
    return visit.ready()


def what_lies_over(visit):
    return visit.page.locator("dialog[open], #guidelines-panel:visible")


def leaves(visit) -> bool:
    """Whether Back leads to where one came from."""
    visit.page.go_back()
    visit.page.wait_for_url("**/work/")
    return True


def wait_for_history(visit, length: int, *, is_over: bool) -> None:
    visit.page.wait_for_function(
        "([length, isOver]) => history.length === length && history.state?.isOver === isOver", arg=[length, is_over]
    )


@pytest.mark.parametrize("key", ["?", "s", "x", "Shift+D", "l"])
def test_back_closes_what_lies_over_the_page_and_the_next_one_leaves(open_browser, policy, key):
    visit = come_from_my_work(open_browser, policy)
    shown = visit.shown
    visit.press("1", key)
    what_lies_over(visit).wait_for()
    visit.page.go_back()
    what_lies_over(visit).wait_for(state="detached")
    assert visit.shown == shown
    assert visit.page.locator("#stage .ranks :checked").count() == 1
    visit.press("2")  # the keys are those of the page again
    assert visit.page.locator("#stage .ranks :checked").count() == 2
    assert leaves(visit)


@pytest.mark.parametrize("key", ["?", "l"])
def test_what_was_closed_with_a_key_keeps_nobody_on_the_page(open_browser, policy, key):
    visit = come_from_my_work(open_browser, policy)
    length = visit.page.evaluate("history.length")
    for _time in range(3):
        visit.press(key)
        what_lies_over(visit).wait_for()
        wait_for_history(visit, length + 1, is_over=True)
        visit.press("Escape")
        wait_for_history(visit, length + 1, is_over=False)
    assert leaves(visit)


def test_what_was_closed_does_not_hold_up_where_one_goes_next(open_browser, policy):
    visit = come_from_my_work(open_browser, policy).press("l")
    what_lies_over(visit).wait_for()
    visit.page.evaluate("document.querySelector('#guidelines-panel [data-close]').click(); location.assign('/work/')")
    visit.page.wait_for_url("**/work/")


def test_a_dialog_that_opens_while_the_one_before_still_closes_stays_open(open_browser, policy):
    visit = come_from_my_work(open_browser, policy).press("x")
    what_lies_over(visit).wait_for()
    visit.press("Escape", "s")
    visit.page.wait_for_timeout(500)
    assert visit.page.locator("#skip-dialog").is_visible()
    visit.page.go_back()
    what_lies_over(visit).wait_for(state="detached")
    assert leaves(visit)


def test_one_dialog_after_the_other_is_closed_by_one_back(open_browser, policy):
    visit = come_from_my_work(open_browser, policy).press("l")
    what_lies_over(visit).wait_for()  # fetched: else it may open after all was closed
    visit.press("s").page.locator("#skip-dialog").wait_for()
    visit.press("x").page.locator("#not-rankable-dialog").wait_for()
    visit.page.go_back()
    what_lies_over(visit).wait_for(state="detached")
    assert leaves(visit)


def test_a_page_that_is_loaded_anew_has_nothing_to_go_back_through(open_browser, policy):
    visit = come_from_my_work(open_browser, policy).press("l")
    what_lies_over(visit).wait_for()
    visit.page.wait_for_function("() => history.state !== null")
    visit.page.reload()
    visit.ready().page.wait_for_function("() => !history.state.isOver")
    assert what_lies_over(visit).count() == 0
    visit.press("l")
    what_lies_over(visit).wait_for()
    visit.page.go_back()
    what_lies_over(visit).wait_for(state="detached")
    assert leaves(visit)


def test_a_link_to_a_place_on_the_page_closes_nothing(open_browser, policy):
    visit = come_from_my_work(open_browser, policy)
    visit.press("l")
    what_lies_over(visit).wait_for()
    visit.page.evaluate("location.hash = 'main'")
    visit.page.wait_for_timeout(200)
    assert what_lies_over(visit).is_visible()
    visit.page.go_back()
    what_lies_over(visit).wait_for(state="detached")


@pytest.mark.parametrize("way", ["Escape", "Back"])
def test_closed_guidelines_leave_one_where_one_has_read_to(open_browser, policy, way):
    visit = come_from_my_work(open_browser, policy, viewport={"width": 1400, "height": 500})
    visit.press("l")
    what_lies_over(visit).wait_for()
    visit.page.evaluate("scrollTo({top: 700, behavior: 'instant'})")
    assert visit.page.evaluate("scrollY") == 700
    if way == "Back":
        visit.page.go_back()
    else:
        visit.press("Escape")
    what_lies_over(visit).wait_for(state="detached")
    visit.page.wait_for_function("() => !history.state?.isOver")
    visit.page.wait_for_timeout(300)
    assert visit.page.evaluate("scrollY") == 700


def test_a_page_that_the_browser_had_kept_is_loaded_anew(open_browser, policy):
    """WebKit keeps it as it was while one is elsewhere, without its locks: what it shows may be answered by then."""
    visit = come_from_my_work(open_browser, policy)
    with visit.page.expect_navigation():
        visit.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    visit.ready()


GO_ON_ELSEWHERE_AND_COME_BACK = """() => {
  const key = Object.keys(localStorage).find((key) => key.startsWith("whetstone-draft-"));
  const draft = JSON.parse(localStorage[key]);
  draft.fields = draft.fields.map(([name]) => [name, "3"]);
  localStorage[key] = JSON.stringify(draft);
  dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
}"""


def test_a_kept_page_does_not_write_over_what_was_begun_since(open_browser, policy):
    visit = come_from_my_work(open_browser, policy).press("1")
    visit.page.wait_for_function("() => Object.keys(localStorage).some((key) => key.startsWith('whetstone-draft-'))")
    with visit.page.expect_navigation():
        visit.page.evaluate(GO_ON_ELSEWHERE_AND_COME_BACK)
    assert visit.ready().page.locator(".place").first.text_content() == "3"
