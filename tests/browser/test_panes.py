"""Long completions in panes that scroll together: by mouse and keyboard, remembered, and only where they make sense."""

import pytest

from annotate.models import Ranking
from tests.browser.visit import intercept, make_work, violations, wait_until

LONG = [("word " * 60 + "\n\n") * n for n in (12, 24, 8, 16, 10, 14, 18, 20, 9)]
SHARES = (
    "() => [...document.querySelectorAll('#stage .completion > .text')]"
    ".map(pane => pane.scrollTop / (pane.scrollHeight - pane.clientHeight))"
)
AGREE = f"([least, most]) => ({SHARES})().every(share => share >= least && share <= most)"


@pytest.fixture
def reader(open_browser, policy):
    make_work(policy, 2, texts=LONG)
    return open_browser(reduced_motion="reduce").ready()


def wait_for_shares(visit, least: float, most: float) -> None:
    visit.page.wait_for_function(AGREE, arg=[least, most])


def turn_on(visit):
    visit.press("p").page.locator("#stage [data-pane]").nth(1).wait_for()
    return visit


def panes_of(visit) -> int:
    return visit.page.locator("#stage [data-pane]").count()


def test_panes_scroll_together_each_by_its_share(reader):
    assert panes_of(reader) == 0
    turn_on(reader)
    for share in (0.5, 1, 0.25):
        reader.page.locator("#stage .completion > .text").first.evaluate(
            "(pane, share) => { pane.scrollTop = share * (pane.scrollHeight - pane.clientHeight) }", share
        )
        wait_for_shares(reader, share - 0.01, share + 0.01)


def test_none_is_offered_before_they_move_together(reader):
    held = []
    intercept(reader.page, "**/js/scrolling*.js", lambda route: held.append(route))
    with reader.page.expect_request("**/js/scrolling*.js"):
        reader.press("p")
    wait_until(reader.page, lambda: held)
    assert panes_of(reader) == 0
    held[0].continue_()
    reader.page.locator("#stage [data-pane]").nth(1).wait_for()
    reader.press("Space")
    assert reader.page.evaluate("scrollY") > 0
    assert reader.page.evaluate(SHARES) == [0, 0]


def test_each_scrolls_by_itself_where_the_script_does_not_come(reader):
    intercept(reader.page, "**/js/scrolling*.js", lambda route: route.abort())
    reader.expected = ("net::ERR_FAILED",)
    turn_on(reader).press("ArrowLeft")
    reader.wait_until_sent()


NONE_HERE = "Nothing to scroll together: these texts fit the window, or it is too small."


@pytest.mark.parametrize("by", ["key", "button"])
def test_where_all_texts_are_short_it_says_why_there_are_no_panes(open_browser, policy, by):
    make_work(policy, 2, texts=["short", "texts"])
    visit = open_browser().ready()
    button = visit.page.locator("#panes-button")
    assert button.get_attribute("aria-disabled") == "true"
    button.focus()  # so that it can be asked
    visit.press("p" if by == "key" else "Enter")
    assert visit.page.locator("#toast").inner_text() == NONE_HERE
    assert visit.said == NONE_HERE
    assert button.get_attribute("aria-pressed") == "false"


def test_what_is_on_can_be_turned_off_where_all_texts_are_short(open_browser, policy):
    make_work(policy, 2, texts=["short", "texts"])
    visit = remember(open_browser(path="/work/"))
    visit.page.goto("/rank/")
    visit.ready().press("p")
    assert visit.said == "Texts at full length"
    assert visit.page.get_attribute("#panes-button", "aria-pressed") == "false"
    assert visit.page.get_attribute("#panes-button", "aria-disabled") == "true"


def test_the_wheel_moves_both(reader):
    reader.page.locator("#panes-button").click()
    reader.page.locator("#stage [data-pane]").nth(1).wait_for()
    reader.page.mouse.move(300, 400)
    reader.page.mouse.wheel(0, 300)
    wait_for_shares(reader, 0.02, 0.9)


def test_space_brings_them_into_sight_and_then_moves_them(reader):
    turn_on(reader).press("Space")
    assert reader.page.evaluate(SHARES) == [0, 0]
    box = reader.page.locator("#stage .completion").first.bounding_box()
    bar = reader.page.locator("#stage .bar").bounding_box()
    assert 0 <= box["y"] < 20
    assert box["y"] + box["height"] <= bar["y"] + 12  # the card's own padding
    reader.press("Space")
    wait_for_shares(reader, 0.05, 1)
    reader.press("Shift+Space")
    wait_for_shares(reader, 0, 0)


def test_a_window_of_another_size_leaves_the_page_where_it_was(reader):
    """Whether panes would be of use is found out with them, in which the page is lower."""
    reader.page.evaluate("scrollTo({top: 600, behavior: 'instant'})")
    size = reader.page.viewport_size
    reader.page.set_viewport_size({"width": size["width"], "height": size["height"] - 40})
    reader.page.wait_for_function("height => innerHeight === height", arg=size["height"] - 40)
    reader.page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    assert reader.page.evaluate("scrollY") == 600


def test_a_pane_is_reached_with_tab_and_its_arrows_answer_nothing(reader):
    turn_on(reader)
    for _ in range(20):
        reader.press("Tab")
        if reader.page.evaluate("document.activeElement.matches('[data-pane]')"):
            break
    reader.press("ArrowDown", "ArrowDown")
    wait_for_shares(reader, 0.001, 1)
    assert not Ranking.objects.exists()
    done = reader.shown
    reader.press("ArrowLeft")
    reader.wait_for_another_than(done)
    reader.wait_until_sent()


def test_it_is_remembered_and_nothing_jumps(reader):
    reader.press("p")
    done = reader.shown
    reader.press("ArrowLeft")
    reader.wait_for_another_than(done)
    reader.page.locator("#stage [data-pane]").nth(1).wait_for()
    reader.page.add_init_script(
        "window.shift = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())"
        " window.shift += entry.value }).observe({type: 'layout-shift', buffered: true})"
    )
    reader.page.goto("/rank/")
    reader.ready().page.locator("#stage [data-pane]").nth(1).wait_for()
    assert reader.page.get_attribute("#panes-button", "aria-pressed") == "true"
    assert reader.page.evaluate("window.shift") == 0
    reader.press("p")
    reader.page.goto("/rank/")
    assert panes_of(reader.ready()) == 0


def test_the_text_as_it_was_written_scrolls_too(reader):
    reader.press("p", "r")
    reader.page.wait_for_function("() => document.querySelectorAll('#stage .raw[data-pane]').length === 2")


def let_panes_come(visit, response) -> None:
    """Once the script has come: whoever asked for it first goes on first, so that panes would be there now."""
    visit.page.evaluate("async address => { await import(address) }", response.value.url)


def remember(visit):
    visit.context.add_cookies([{"name": "whetstone_panes", "value": "1", "url": visit.url}])
    return visit


def test_short_texts_are_no_panes(open_browser, policy):
    make_work(policy, 4)
    visit = remember(open_browser(path="/work/"))
    with visit.page.expect_response("**/js/scrolling*.js") as response:
        visit.page.goto("/rank/")
    let_panes_come(visit.ready(), response)
    assert panes_of(visit) == 0


@pytest.mark.parametrize(("k", "width", "height"), [(2, 360, 740), (2, 640, 400), (3, 960, 700)])
def test_where_texts_do_not_stand_beside_each_other_there_are_none(open_browser, policy, k, width, height):
    """A phone, and a window at 200 %: whatever is remembered, the page scrolls as one."""
    make_work(policy, k, texts=LONG)
    visit = remember(open_browser(path="/work/", viewport={"width": width, "height": height}))
    with visit.page.expect_response("**/js/scrolling*.js") as response:
        visit.page.goto("/rank/")
    let_panes_come(visit.ready(), response)
    assert panes_of(visit) == 0
    assert not visit.page.locator("#panes-button").is_visible()
    visit.press("p", "p")  # off, and not on again
    assert visit.said == NONE_HERE


def test_the_line_of_the_prompt_lies_over_no_pane(open_browser, policy):
    make_work(policy, 2, texts=LONG)
    visit = open_browser(viewport={"width": 900, "height": 700}).ready()
    assert visit.page.locator("#stage .to-prompt").is_visible()
    turn_on(visit)
    assert not visit.page.locator("#stage .to-prompt").is_visible()


@pytest.mark.parametrize("k", [2, 4, 9])
def test_axe_finds_nothing_with_panes(open_browser, policy, k):
    make_work(policy, k, texts=LONG, strength_scale=3)
    visit = turn_on(open_browser().ready())
    # At the top of the page the bar covers part of a button of K = 4, which axe takes for a small one.
    visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert violations(visit.page) == []
