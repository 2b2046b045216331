"""What an answer took, on a clock that goes only when it is told to."""

import pytest

from annotate.models import Ranking
from tests.browser.visit import make_work

ASKED = {"strength_scale": 3, "axes": ["helpful"], "rationale_chips": ["clearer"], "asks_spans": True}


@pytest.fixture
def visit(open_browser, policy):
    return before_the_second(open_browser, policy, 2, "ArrowLeft", "Enter", strength_scale=3)


def before_the_second(open_browser, policy, k: int, *keys: str, **asked):
    """Alice before the second of her comparisons, the clock standing still since it came."""
    make_work(policy, k, **asked)
    visit = open_browser(path="/work/")
    visit.page.clock.install()
    visit.page.goto("/rank/")
    visit.ready()
    visit.page.clock.pause_at(visit.page.evaluate("Date.now() / 1000 + 5"))
    answer(visit, *keys)
    return visit


def answer(visit, *keys: str) -> Ranking:
    done = visit.shown
    visit.press(*keys).wait_for_another_than(done)
    visit.wait_until_sent()
    return Ranking.objects.get(assignment=done, is_current=True)


def wait(visit, seconds: int) -> None:
    visit.page.clock.run_for(1000 * seconds)


def hide(visit, is_hidden: bool) -> None:
    visit.page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')) }",
        is_hidden,
    )


def test_active_time_leaves_out_what_passes_while_the_page_is_hidden(visit):
    wait(visit, 6)
    hide(visit, True)
    wait(visit, 3)
    hide(visit, False)
    wait(visit, 1)
    ranking = answer(visit, "ArrowLeft", "Enter")
    assert (ranking.active_ms, ranking.first_action_ms) == (7_000, 10_000)


def test_active_time_ends_half_a_minute_after_the_last_that_was_done(visit):
    visit.page.clock.fast_forward(100_000)  # as when the machine slept
    visit.press("a")
    wait(visit, 2)
    assert answer(visit, "ArrowLeft", "Enter").active_ms == 32_000


def test_time_with_another_comparison_is_not_counted(visit):
    wait(visit, 10)
    first = visit.shown
    assert answer(visit, "ArrowLeft", "Enter").active_ms == 10_000
    second = visit.shown
    wait(visit, 20)
    visit.press("u")
    assert visit.wait_for_another_than(second) == first
    wait(visit, 1)
    correction = answer(visit, "ArrowRight", "Enter")
    assert (correction.active_ms, correction.first_action_ms, correction.changes) == (1_000, 1_000, 1)  # its own alone
    assert visit.shown == second
    wait(visit, 2)
    assert answer(visit, "ArrowRight", "Enter").active_ms == 22_000


def test_a_reload_goes_on_counting_what_was_read_before_it(visit):
    wait(visit, 10)
    visit.page.reload()
    visit.ready()
    wait(visit, 5)
    ranking = answer(visit, "ArrowLeft", "Enter")
    assert (ranking.active_ms, ranking.first_action_ms) == (15_000, 15_000)


def test_a_reload_keeps_the_first_action_and_the_number_of_changes(visit):
    wait(visit, 10)
    visit.press("ArrowLeft")
    wait(visit, 2)
    visit.press("ArrowRight")
    visit.page.reload()
    visit.ready()
    wait(visit, 5)
    ranking = answer(visit, "2")
    assert (ranking.active_ms, ranking.first_action_ms, ranking.changes) == (17_000, 10_000, 1)


@pytest.mark.parametrize("control", ["[name^=flag-]", "[name^=axis-]", "[name=chip]", "[name=strength]"])
def test_the_first_action_is_whatever_is_said_first(open_browser, policy, control):
    visit = before_the_second(open_browser, policy, 2, "ArrowLeft", "Enter", **ASKED)
    wait(visit, 4)
    visit.page.locator(f"#stage {control}").first.evaluate("control => control.click()")
    wait(visit, 3)
    assert answer(visit, "ArrowLeft", "Enter").first_action_ms == 4_000


def test_the_first_action_may_be_a_word(open_browser, policy):
    visit = before_the_second(open_browser, policy, 2, "ArrowLeft", asks_rationale=True)
    wait(visit, 4)
    visit.press("w").page.keyboard.type("so")
    wait(visit, 3)
    assert answer(visit, "Escape", "ArrowLeft").first_action_ms == 4_000


def test_the_first_action_may_be_a_mark_and_one_that_is_removed_is_a_change(open_browser, policy):
    visit = before_the_second(open_browser, policy, 2, "ArrowLeft", "Enter", **ASKED)
    wait(visit, 4)
    visit.page.evaluate("getSelection().selectAllChildren(document.querySelector('#stage .completion .text p'))")
    visit.press("j").page.locator("#stage .marks button").wait_for()
    wait(visit, 3)
    visit.page.locator("#stage .marks button").evaluate("button => button.click()")
    ranking = answer(visit, "ArrowLeft", "Enter")
    assert (ranking.first_action_ms, ranking.changes, ranking.spans) == (4_000, 1, [])


@pytest.mark.parametrize(
    ("keys", "changes"),
    [("0", 0), ("10", 1), ("10023", 2), ("0123", 1), ("0n", 1), ("123", 0)],
)
def test_to_call_all_bad_what_had_ranks_and_to_take_it_back_are_changes(open_browser, policy, keys, changes):
    visit = before_the_second(open_browser, policy, 3, *"123", "Enter")
    assert answer(visit, *keys, "Enter").changes == changes


def work(visit, seconds: int) -> bool:
    """Something is done every five seconds; returns whether a rest was proposed."""
    proposed = False
    for _step in range(seconds // 5):
        visit.press("a")
        wait(visit, 5)
        proposed |= "A short rest" in visit.page.locator("#toast").inner_text()
    return proposed


def test_a_rest_is_proposed_after_work_without_one(open_browser, policy, monkeypatch):
    monkeypatch.setattr("annotate.page_data.BREAK_AFTER_MINUTES", 1)
    visit = before_the_second(open_browser, policy, 2, "ArrowLeft")
    assert not work(visit, 40)
    visit.page.clock.fast_forward(600_000)  # a rest of ten minutes
    assert not work(visit, 40)
    assert work(visit, 30)


@pytest.mark.parametrize(("pause", "is_proposed"), [(240, True), (600, False)])
def test_work_before_a_reload_or_another_page_counts_until_a_pause(
    open_browser, policy, monkeypatch, pause, is_proposed
):
    monkeypatch.setattr("annotate.page_data.BREAK_AFTER_MINUTES", 1)
    visit = before_the_second(open_browser, policy, 2, "ArrowLeft")
    assert not work(visit, 40)
    visit.page.goto("/work/")
    visit.page.clock.fast_forward(1000 * pause)
    visit.page.goto("/rank/")
    assert work(visit.ready(), 30) is is_proposed


def test_work_is_only_that_of_who_is_signed_in(open_browser, policy, cast, monkeypatch):
    monkeypatch.setattr("annotate.page_data.BREAK_AFTER_MINUTES", 1)
    visit = before_the_second(open_browser, policy, 2, "ArrowLeft")
    assert not work(visit, 40)
    visit.person = cast["bob"]
    visit.sign_in()
    visit.page.goto("/rank/")
    assert not work(visit.ready(), 30)
