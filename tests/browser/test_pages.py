"""The page for everyone: it fits a phone, it works without a script, it is small and it is quick."""

import pytest
from playwright.sync_api import expect
from rjsmin import jsmin

from annotate.models import Assignment, Comparison, Completion, PromptPool, Ranking, User
from annotate.services.invitations import invite_person
from tests.browser.test_outbox import stored_once, wait_until_fetched_ahead
from tests.browser.visit import (
    MARKDOWN,
    RICH,
    intercept,
    make_training,
    make_work,
    ranks_as_shown,
    violations,
    wait_until,
)
from tests.worlds import make_ranking

PAGE_BYTES = 150_000


@pytest.mark.parametrize("k", [2, 4, 9])
def test_it_fits_a_phone_of_360_pixels_and_is_ranked_by_touch(open_browser, policy, k):
    make_work(policy, k, count=3, texts=[MARKDOWN, "word " * 80, "x" * 300, *("short",) * 6])
    visit = open_browser(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).ready()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    done = visit.shown
    if k == 2:
        visit.page.locator("button[name=verdict][value=second]").tap()
    else:
        for button in visit.page.locator("#stage .take-next").all():
            button.tap()
        visit.page.locator("#stage button.submit").tap()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == ([2, 1] if k == 2 else list(range(1, k + 1)))
    assert not visit.page.locator("#toast").is_visible()  # nothing lies over the next one's texts and buttons
    visit.page.get_by_role("button", name="Undo").tap()
    visit.page.locator("#toast").wait_for()
    assert visit.shown == done


@pytest.mark.parametrize(
    ("first", "then", "ranks", "strength"),
    [
        ("A is better", "much better", [1, 2], 3),
        ("B is better", "Leave it open", [2, 1], None),
        ("A is better", "A is better", [1, 2], None),
        ("Equally good", None, [1, 1], None),
    ],
)
@pytest.mark.parametrize("is_phone", [True, False])
def test_how_much_better_is_said_by_touch_and_by_mouse(open_browser, policy, is_phone, first, then, ranks, strength):
    make_work(policy, 2, count=3, strength_scale=3)
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    visit = open_browser(**(phone if is_phone else {})).ready()
    done = visit.shown
    for name in (first, then):
        if name:
            found = visit.page.locator("#stage .bar").locator("button, label", has_text=name)
            found.tap() if is_phone else found.click()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == ranks
    assert Ranking.objects.get().strength == strength


SLOW = """addEventListener("mouseup", () => {
  for (const end = performance.now() + 150; performance.now() < end;);
}, { capture: true })"""


@pytest.mark.parametrize("is_phone", [True, False])
def test_how_much_better_is_said_on_a_slow_machine_too(open_browser, policy, is_phone):
    """Where the click comes long after the finger was lifted."""
    make_work(policy, 2, count=3, strength_scale=3)
    visit = open_browser(path="/work/", has_touch=is_phone, is_mobile=is_phone)
    visit.page.add_init_script(SLOW)
    visit.page.goto("/rank/")
    done = visit.ready().shown
    for name in ("A is better", "much better"):
        found = visit.page.locator("#stage .bar").locator("button, label", has_text=name)
        found.tap() if is_phone else found.click()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert Ranking.objects.get().strength == 3


def test_how_much_better_the_first_of_four_is_is_asked_on_a_phone_once_all_are_ranked(open_browser, policy):
    make_work(policy, 4, count=3, strength_scale=3)
    visit = open_browser(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).ready()
    assert not visit.page.locator("#stage .strengths").is_visible()
    for button in visit.page.locator("#stage .take-next").all():
        button.tap()
    visit.page.get_by_text("much better", exact=True).tap()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    done = visit.shown
    visit.page.locator("#stage button.submit").tap()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert Ranking.objects.get().strength == 3


def test_what_a_key_does_a_finger_does_too(open_browser, policy, monkeypatch):
    """Differences, marked words, guidelines, and that a comparison cannot be ranked."""
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 0)
    make_work(policy, 2, count=3, asks_spans=True)
    visit = open_browser(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).ready()
    page = visit.page
    page.get_by_role("button", name="Differences").tap()
    page.locator("#diff-dialog :is(ins, del)").first.wait_for()
    page.locator("#diff-dialog [data-close]").tap()
    page.get_by_role("link", name="Guidelines").tap()
    page.locator("#guidelines-panel").get_by_text("Be kind.").wait_for()
    page.locator("#guidelines-panel [data-close]").tap()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#stage .completion .text p'))")
    page.locator("#stage .marking button").nth(1).tap()
    page.locator("#stage .marks li").wait_for()
    assert page.locator("#stage .marks li").inner_text().startswith("bad: “")
    bar = page.locator("#stage .marks li").evaluate("item => getComputedStyle(item).borderInlineStartColor")
    assert bar != page.locator("#stage .marks li").evaluate("item => getComputedStyle(item).color")  # good or bad
    done = visit.shown
    page.get_by_role("button", name="Skip").tap()
    page.get_by_role("button", name="It cannot be ranked").tap()
    page.get_by_role("button", name="The prompt makes no sense").tap()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert Assignment.objects.get(pk=done).skip_reason == "not rankable: no_sense"


def test_what_marks_words_is_fetched_with_the_first_that_are_selected(open_browser, policy):
    make_work(policy, 2, count=1, asks_spans=True)
    visit = open_browser(path="/work/")
    fetched = []
    visit.page.on("request", lambda request: fetched.append(request.url.rsplit("/", 1)[-1]))
    visit.page.goto("/rank/")
    visit.ready()
    assert "marking.js" in fetched and "marks.js" not in fetched
    visit.page.evaluate("getSelection().selectAllChildren(document.querySelector('#stage .completion .text p'))")
    visit.press("j")
    visit.page.locator("#stage .marks li").wait_for()
    assert "marks.js" in fetched


@pytest.mark.parametrize("way", ["key", "button"])
def test_words_are_marked_though_what_marks_them_comes_late(open_browser, policy, way):
    make_work(policy, 2, asks_spans=True, asks_rationale=True)
    visit = open_browser().ready()
    held = []
    intercept(visit.page, "**/js/marks*.js", lambda route: held.append(route))
    visit.page.locator("#stage .completion > .text p").first.dblclick(position={"x": 8, "y": 8})
    if way == "key":
        visit.press("j")
    else:
        visit.page.locator("#stage .marking button").first.click()
    visit.press("w")  # which takes the focus, and the selection with it
    wait_until(visit.page, lambda: held)
    held[0].continue_()
    visit.page.locator("#stage .marks li").wait_for()
    visit.page.keyboard.type("so")
    assert visit.page.locator("textarea[name=rationale]").input_value() == "so"


def test_all_tied_by_touch(open_browser, policy):
    make_work(policy, 4, count=3)
    visit = open_browser(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True).ready()
    done = visit.shown
    visit.page.get_by_role("button", name="All tied").tap()
    visit.page.locator("#stage button.submit").tap()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [1, 1, 1, 1]


def overlap(one: dict, other: dict) -> bool:
    across = one["x"] < other["x"] + other["width"] and other["x"] < one["x"] + one["width"]
    return across and one["y"] < other["y"] + other["height"] and other["y"] < one["y"] + one["height"]


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("width", [360, 1000, 1280, 1400])
def test_a_message_lies_over_no_text_and_no_button(open_browser, policy, monkeypatch, width, k):
    monkeypatch.setattr("annotate.page_data.BREAK_AFTER_MINUTES", 0)
    make_work(policy, k, count=1, texts=["word " * 300] * 4)
    visit = open_browser(viewport={"width": width, "height": 740}).ready()
    buttons = visit.page.locator("#stage .bar button:visible")
    before = [button.bounding_box() for button in buttons.all()]
    visit.page.mouse.move(100, 100)
    visit.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    visit.wait_for_text("A short rest keeps the judgement sharp.")
    message = visit.page.locator("#toast").bounding_box()
    moved = [abs(button.bounding_box()["y"] - box["y"]) for button, box in zip(buttons.all(), before, strict=True)]
    assert max(moved) < 1  # no press goes astray
    assert not any(overlap(message, box) for box in before)
    bar, last = (visit.page.locator(part).last.bounding_box() for part in ("#stage .bar", "#stage .completion"))
    assert bar["y"] <= message["y"]
    assert last["y"] + last["height"] <= bar["y"]


def top_of(locator) -> float:
    return locator.bounding_box()["y"]


def test_a_key_brings_the_whole_completion_above_the_bar(open_browser, policy):
    make_work(policy, 4, texts=["word " * 80] * 4)
    visit = open_browser(viewport={"width": 1280, "height": 800}).ready().press("1", "2")
    box = visit.page.locator("#stage .completion.is-active").bounding_box()
    assert box["y"] + box["height"] <= top_of(visit.page.locator("#stage .bar"))


def test_what_one_opens_or_places_moves_no_other_button(open_browser, policy):
    make_work(policy, 3, axes=["helpful"])
    visit = open_browser(viewport={"width": 1280, "height": 800}).ready()
    neighbour = visit.page.locator("#stage .ranks").nth(1)
    places = visit.page.locator("#stage .tray-place:not(.is-waiting)")
    before = top_of(neighbour), [place.bounding_box() for place in places.all()]
    visit.page.locator("#stage .more summary").first.click()
    visit.press("1")
    assert (top_of(neighbour), [place.bounding_box() for place in places.all()]) == before


def test_my_work_fits_a_phone(open_browser, policy, cast):
    pool = make_work(policy, 3, count=1)
    make_ranking(pool.comparisons.get(), cast["alice"], [1, 2, 3])
    visit = open_browser(path="/work/", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
    link = visit.page.get_by_role("link", name="Look, correct").bounding_box()
    assert link["x"] + link["width"] <= 360  # in sight, not at the end of a table that scrolls


READERS = {
    "phone": (360, 740, 3),
    "200 percent": (640, 400, 3),
    "Full HD at 200 percent": (960, 540, 3),
    "two columns": (960, 540, 2),
}


@pytest.fixture(params=READERS.values(), ids=READERS)
def reader(request, open_browser, policy):
    """Reads the last of two or three long completions of a long prompt."""
    width, height, k = request.param
    pool = make_work(policy, k, count=2, texts=["word " * 400] * 3)
    for prompt in pool.prompts.all():
        prompt.messages = [{"role": "user", "content": "Which *word*\nis best? " * 200 + str(prompt.pk)}]
        prompt.save()
    visit = open_browser(viewport={"width": width, "height": height}, has_touch=True).ready()
    last = visit.page.locator("#stage .completion").last
    last.evaluate("card => scrollBy({top: card.getBoundingClientRect().top + 200, behavior: 'instant'})")
    return visit


def test_a_line_of_the_prompt_stays_in_sight_and_a_tap_shows_the_whole(reader):
    page, height = reader.page, reader.page.viewport_size["height"]
    line, whole, last = (
        page.locator(f"#stage {part}").last for part in (".to-prompt summary", ".to-prompt .whole", ".completion")
    )
    assert page.get_by_text("Which *word* is best?").count() == 1  # on one line, as it was written
    box = line.bounding_box()
    assert (box["y"], box["height"]) == (0, 32)
    assert top_of(last.locator(".completion-head")) == 32  # not under it
    read = top_of(last)
    page.touchscreen.tap(100, 16)
    box = whole.bounding_box()
    assert box["y"] == 32
    assert box["height"] <= 0.6 * height + 1
    assert whole.inner_text() == page.locator("#stage .prompt .text").inner_text()  # by scrolling in it
    assert top_of(last) == read
    assert violations(page) == []
    page.touchscreen.tap(100, 16)
    whole.wait_for(state="hidden")
    assert top_of(last) == read


def test_the_line_of_the_prompt_takes_no_room_and_lies_under_the_prompt(reader):
    page = reader.page
    page.evaluate("scrollTo(0, 0)")
    on_top = """summary => {
        const { left, right, top, bottom } = summary.getBoundingClientRect();
        return document.elementsFromPoint((left + right) / 2, (top + bottom) / 2)[0].closest(".prompt") !== null;
    }"""
    line = page.locator("#stage .to-prompt summary")
    line.evaluate("summary => summary.scrollIntoView({block: 'center', behavior: 'instant'})")
    assert line.evaluate(on_top)
    heights = [
        page.evaluate("document.documentElement.scrollHeight"),
        page.evaluate("document.querySelector('.to-prompt').remove(), document.documentElement.scrollHeight"),
    ]
    assert heights[0] == heights[1]


def test_a_letter_brings_its_completion_out_from_under_the_line_of_the_prompt(reader):
    reader.press("b")
    second = reader.page.locator("#stage .completion").nth(1)
    assert top_of(second) >= 32
    assert top_of(second.locator(".completion-head")) >= 32


def test_it_fits_at_200_percent(open_browser, policy):
    make_work(policy, 4, texts=["word " * 200] * 4)
    visit = open_browser(viewport={"width": 640, "height": 400}, device_scale_factor=2).ready()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 640


def test_it_ranks_with_a_mouse_by_clicks_and_by_dragging(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    done = visit.shown
    visit.page.locator("#stage .ranks label").nth(3).click()  # A is fourth
    visit.page.locator("#stage .take-next").nth(1).click()  # B takes the first free place
    for chip, place in ((2, 3), (3, 2)):
        start = visit.page.locator(".tray-chip", has_text="ABCD"[chip]).bounding_box()
        end = visit.page.locator(".tray-place").nth(place).bounding_box()
        visit.page.mouse.move(start["x"] + 8, start["y"] + 8)
        visit.page.mouse.down()
        visit.page.mouse.move(end["x"] + 8, end["y"] + 8, steps=4)
        visit.page.mouse.up()
    visit.page.locator("#stage button.submit").click()
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [4, 1, 3, 2]


@pytest.mark.parametrize(
    ("k", "ties", "sentence"),
    [
        (2, True, "Read both, then say at the foot of the page which is better."),
        (4, True, "Rank the completions: 1 is the best; equal ones may share a number."),
        (4, False, "Rank the completions: 1 is the best; each number goes to one alone."),
    ],
)
def test_a_beginner_is_told_how_it_is_done_until_the_first_answer(open_browser, policy, k, ties, sentence):
    make_work(policy, k, ties_allowed=ties)
    visit = open_browser().ready()
    beginning = visit.page.locator("#beginning")
    assert beginning.inner_text() == sentence
    done = visit.shown
    visit.press(*(["ArrowLeft"] if k == 2 else [*"1234", "Enter"]))
    visit.wait_for_another_than(done)
    assert beginning.count() == 0
    visit.wait_until_sent().page.reload()
    visit.ready()
    assert beginning.count() == 0


@pytest.mark.parametrize("k", [2, 4])
def test_it_works_without_a_script(open_browser, policy, k):
    make_work(policy, k, count=2)
    visit = open_browser(java_script_enabled=False)
    visit.page.wait_for_url("**/rank/?in_full=1")  # else it comes in the middle of the ranking
    done = visit.shown
    if k == 2:
        visit.page.locator("button[name=verdict][value=first]").click()
    else:
        for card, rank in enumerate((2, 1, 3, 3)):
            visit.page.locator("#stage .completion").nth(card).locator(f".ranks label:nth-of-type({rank})").click()
        visit.page.locator("#stage button.submit").click()
    visit.wait_for_text("Saved.")
    assert visit.shown != done
    assert ranks_as_shown(done) == ([1, 2] if k == 2 else [2, 1, 3, 3])
    left = visit.shown
    visit.page.locator(".leave summary").click()
    visit.page.get_by_label("Leave it unranked, because").select_option("The prompt makes no sense")
    visit.page.get_by_role("button", name="Leave it").click()
    visit.wait_for_text("Nothing to rank")
    assert Assignment.objects.get(pk=left).skip_reason == "not rankable: no_sense"


def test_all_that_is_asked_can_be_said_without_a_script(open_browser, policy):
    make_work(policy, 3, count=2, strength_scale=3, **RICH)
    visit = open_browser(java_script_enabled=False)
    visit.page.wait_for_url("**/rank/?in_full=1")
    stage = visit.page.locator("#stage")
    done, cards = visit.shown, stage.locator(".completion")
    for card, rank in enumerate((2, 1, 3)):
        cards.nth(card).locator(f".ranks label:nth-of-type({rank})").click()
    cards.nth(1).locator(".more summary").click()
    cards.nth(1).get_by_text("untrue").click()
    cards.nth(1).get_by_role("group", name="honest").get_by_text("4").click()
    assert stage.get_by_text("Selected words:").count() == 0  # takes a script
    stage.locator("summary", has_text="Why?").click()
    stage.locator(".why").get_by_label("In your words").fill("So it is.")
    stage.locator("button.submit").click()
    visit.wait_for_text("Saved.")
    visit.page.wait_for_url("**/rank/?in_full=1")
    [ranking] = Ranking.objects.all()
    second = str(Assignment.objects.get(pk=done).order[1])
    assert ranks_as_shown(done) == [2, 1, 3]
    assert (ranking.flags, ranking.axes) == ({second: ["untrue"]}, {second: {"honest": 4}})
    assert ranking.rationale == "So it is."


def test_where_the_browser_keeps_nothing_a_refused_form_keeps_what_was_written(open_browser, policy):
    make_work(policy, 4, count=2, **RICH)
    visit = open_browser(path="/work/")
    visit.expected = ("422", "409")
    visit.page.add_init_script("IDBFactory.prototype.open = () => { throw new DOMException('No.', 'SecurityError'); }")
    visit.page.goto("/rank/")
    visit.ready()
    done = visit.shown
    submit, better = (visit.page.locator(f"#stage {part}") for part in ("button.submit", "[name=better_answer]"))
    for rank in (1, 2, 3):
        visit.page.locator("#stage .completion").nth(rank - 1).locator(f".ranks label:nth-of-type({rank})").click()
    visit.page.locator("#stage .better summary").click()
    better.fill("A better answer.")
    submit.click()
    visit.wait_for_text("Every completion needs a rank.")
    assert visit.shown == done
    assert better.input_value() == "A better answer."
    visit.ready()
    assert violations(visit.page) == []
    Assignment.objects.update(status="expired")
    visit.page.locator("#stage .ranks").nth(3).locator("label").nth(3).click()
    submit.click()
    words = visit.page.get_by_label("What you wrote is kept here, so that you can copy it:").first
    words.wait_for()
    assert words.input_value() == "A better answer.\n\nA > B > C > D"
    visit.ready()
    assert violations(visit.page) == []


def test_it_gives_feedback_in_training_and_qualifies(open_browser, policy, cast):
    make_training(policy)
    visit = open_browser().ready()
    better = 1 + visit.words().index("amber")
    visit.press("ArrowLeft" if better == 1 else "ArrowRight")
    visit.wait_for_text("Well judged")
    visit.wait_for_text("Amber glows.")
    visit.wait_for_text("You have passed the training.")
    assert violations(visit.page) == []
    done = visit.shown
    visit.press("Enter")
    visit.wait_for_another_than(done)
    assert not Ranking.objects.get().counts


def test_a_link_in_feedback_is_followed_with_enter_and_the_rest_is_closed_with_it(open_browser, policy):
    make_training(policy)
    Comparison.objects.filter(kind="training").update(gold_explanation="See [this](https://example.org/).")
    visit = open_browser().ready().press("ArrowLeft")
    dialog = visit.page.locator("#feedback-dialog")
    expect(dialog.locator("h2")).to_be_focused()
    visit.press("Tab")
    with visit.context.expect_page() as opened:
        visit.press("Enter")
    assert "example.org" in opened.value.url
    assert dialog.is_visible()
    dialog.locator("h2").focus()
    visit.press("Enter")
    expect(dialog).not_to_be_visible()


def test_training_that_was_fetched_ahead_is_marked_so_and_what_is_said_of_it_holds(open_browser, policy):
    make_training(policy, 3)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    for _n in range(3):
        done = visit.shown
        visit.wait_for_text("training: you will see the right answer afterwards")
        visit.press("ArrowLeft" if visit.words()[0] == "amber" else "ArrowRight")
        visit.page.locator("#feedback-dialog", has_text="What is not marked as training counts from now on.").wait_for()
        visit.press("Enter").wait_for_another_than(done)
    assert not visit.page.get_by_text("training: you will see").count()
    assert not Ranking.objects.filter(counts=True).exists()
    visit.press("u").wait_for_text("My work has all answers that count.")
    done = visit.shown
    visit.press("ArrowLeft").wait_for_another_than(done)
    visit.wait_until_sent()
    assert Ranking.objects.filter(counts=True).count() == 1


def test_feedback_begins_at_its_beginning_on_a_phone_and_fits_it(open_browser, policy):
    make_training(policy)
    Comparison.objects.filter(kind="training").update(gold_explanation="Amber glows, and so it is better. " * 60)
    visit = open_browser(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True).ready()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.page.locator("button[name=verdict][value=first]").tap()
    dialog = visit.page.locator("#feedback-dialog")
    dialog.wait_for()
    assert dialog.evaluate("dialog => [dialog.scrollTop, dialog.scrollHeight > dialog.clientHeight]") == [0, True]
    for part in (dialog.locator("h2"), dialog.get_by_role("button", name="Next")):
        assert part.evaluate("one => one.getBoundingClientRect().bottom <= innerHeight && one.checkVisibility()")
    assert violations(visit.page) == []


def test_training_that_was_not_passed_is_said_and_none_of_it_is_skipped(open_browser, policy):
    make_training(policy)
    visit = open_browser().ready()
    assert not visit.page.get_by_role("button", name="Skip").is_visible()
    for key in ("s", "x"):
        visit.press(key)
        visit.page.locator("#toast", has_text="Training comparisons cannot be skipped.").wait_for()
        assert not visit.page.locator("dialog[open]").count()
        visit.page.evaluate("document.getElementById('toast').hidden = true")
    better = 1 + visit.words().index("amber")
    visit.press("ArrowRight" if better == 1 else "ArrowLeft").wait_for_text("Amber glows.")
    visit.press("Enter").wait_for_text("You did not pass the training of “pool of 2”: 0 of 1 answers were right")


def test_why_there_is_nothing_is_said_anew_when_it_changes(open_browser, policy):
    pool = make_work(policy, 2, count=1)
    Comparison.objects.update(is_withdrawn=True)
    visit = open_browser().wait_for_text("The next comparisons are being written.")
    visit.page.wait_for_selector("html[data-ready]")
    PromptPool.objects.filter(pk=pool.pk).update(status="paused", status_reason="We go on on Monday.")
    visit.wait_for_text("is paused: We go on on Monday.")
    assert "“pool of 2” is paused: We go on on Monday." in visit.all_said


def test_training_tells_after_a_reload_what_was_answered_before_it(open_browser, policy):
    make_training(policy)
    visit = open_browser().ready()
    visit.expected = ("net::ERR_FAILED",)
    done = visit.shown
    intercept(visit.page, "**/ranking/", lambda route: route.abort())
    visit.press("ArrowLeft").wait_for_text("1 waiting")
    visit.page.reload()
    visit.ready().press("u").wait_for_text("Nothing to take back since this page was loaded.")
    assert visit.shown == done
    visit.page.unroute("**/ranking/")
    visit.page.evaluate("dispatchEvent(new Event('focus'))")
    visit.wait_for_text("Amber glows.")


def test_the_second_click_of_a_double_click_answers_nothing(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    done = visit.shown
    box = visit.page.get_by_role("button", name="A is better").bounding_box()
    visit.page.mouse.move(box["x"] + 20, box["y"] + 10)
    following = 0
    for count in (1, 2, 3):  # a slow double click, and one more: the next comparison is there before its second
        visit.page.mouse.down(click_count=count)
        visit.page.mouse.up(click_count=count)
        following = following or visit.wait_for_another_than(done)
    assert visit.shown == following
    visit.press("ArrowRight")
    visit.wait_for_another_than(following)
    visit.wait_until_sent()
    assert stored_once(done, following)
    assert Ranking.objects.count() == 2
    assert ranks_as_shown(following) == [2, 1]  # by the key, and not by the second click


LEFT_UNDER_THE_BAR = """() => {
    const bar = document.querySelector('.bar');
    const place = element => element.getBoundingClientRect().top;
    const end = element => Math.floor(element.getBoundingClientRect().bottom);
    const below = [...document.querySelectorAll('#stage :is(button, input, summary)')].filter(element => {
        if (bar.contains(element) || !element.checkVisibility({visibilityProperty: true})) return false;
        document.activeElement.blur();
        scrollBy({top: place(element) - place(bar) - 4, behavior: 'instant'});
        if (place(element) < place(bar)) return false;  // the page ends before it comes to lie there
        element.focus();
        return end(element) > place(bar);
    });
    return below.map(element => element.outerHTML.slice(0, 80));
}"""


LOW = [(640, 400), (320, 256), (740, 360)]


def size(width: int, height: int) -> dict:
    return {"width": width, "height": height}


@pytest.mark.parametrize(
    ("k", "keys", "asked"),
    [(4, "", {}), (4, "1234", {"strength_scale": 3, **RICH}), (2, ["ArrowLeft"], {"strength_scale": 3, **RICH})],
)
@pytest.mark.parametrize("viewport", [(1280, 800), (360, 740), *LOW])
def test_what_gets_the_focus_comes_out_from_under_the_bar(open_browser, policy, viewport, k, keys, asked):
    """WCAG 2.2, 2.4.11, which axe cannot see. Each control is scrolled to lie under the bar, then gets the focus."""
    make_work(policy, k, texts=["word " * 120] * 4, **asked)
    visit = open_browser(viewport=size(*viewport)).ready().press(*keys)
    assert visit.page.evaluate(LEFT_UNDER_THE_BAR) == []


IN_SIGHT = """element => {
    const { left, right, top, bottom } = element.getBoundingClientRect();
    const found = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return top >= 0 && bottom <= innerHeight && (element.contains(found) || found.contains(element));
}"""


@pytest.mark.parametrize("viewport", LOW)
def test_in_a_low_window_the_bar_leaves_it_to_the_texts(open_browser, policy, viewport):
    """WCAG 1.4.10: a window of 1280 × 800 at 200 %, of 1280 × 1024 at 400 %, and a phone on its side."""
    make_work(policy, 2, texts=["word " * 300] * 2, strength_scale=3)
    visit = open_browser(viewport=size(*viewport)).ready()
    bar, asked = visit.page.locator("#stage .bar"), visit.page.locator("#stage .strengths legend")
    assert top_of(bar) >= viewport[1]
    visit.press("ArrowLeft")
    assert viewport[1] / 2 < top_of(bar) < viewport[1]
    assert asked.evaluate(IN_SIGHT)
    visit.page.evaluate("scrollTo({top: document.body.scrollHeight, behavior: 'instant'})")
    for part in (asked, *bar.locator("button:visible, label").all()):
        part.evaluate("part => part.scrollIntoView({block: 'center', behavior: 'instant'})")
        assert part.evaluate(IN_SIGHT)


@pytest.mark.parametrize("viewport", LOW)
def test_in_a_low_window_tab_brings_the_bar_into_sight(open_browser, policy, viewport):
    make_work(policy, 2, texts=["word " * 300] * 2, strength_scale=3)
    visit = open_browser(viewport=size(*viewport)).ready().press("ArrowLeft")
    visit.page.locator("#stage [data-act=raw]").last.focus()
    reached = []
    for _ in range(10):
        if not visit.press("Tab").page.evaluate("document.activeElement.closest('.bar') !== null"):
            continue
        focused = visit.page.locator(":focus")
        assert focused.evaluate(f"one => ({IN_SIGHT})(one.labels?.[0] ?? one)")
        reached.append(focused.get_attribute("value"))
    assert {"first", "tie", "bad", "second"} <= set(reached)


def test_in_a_low_window_a_message_looks_out(open_browser, policy):
    make_work(policy, 4, texts=["word " * 300] * 4)
    visit = open_browser(viewport=size(640, 400)).ready().press("u")
    visit.page.locator("#toast").wait_for()
    visit.page.wait_for_function(f"() => ({IN_SIGHT})(document.getElementById('toast'))")


@pytest.mark.parametrize(("k", "width"), [(9, 800), (5, 960), (3, 800)])
def test_no_head_covers_the_text_under_it(open_browser, policy, k, width):
    make_work(policy, k, texts=["word " * 60] * k)
    visit = open_browser(viewport=size(width, 700)).ready()
    box = "getBoundingClientRect()"
    below = f"card => card.querySelector('.text').{box}.top - card.firstElementChild.{box}.bottom"
    assert all(visit.page.locator("#stage .completion").nth(n).evaluate(below) >= 0 for n in range(k))


def test_without_a_script_the_bar_stands_at_the_end(open_browser, policy):
    """Open, its reasons to skip are higher than most of a phone."""
    make_work(policy, 2, texts=["word " * 300] * 2)
    visit = open_browser(java_script_enabled=False, viewport=size(360, 640))
    assert top_of(visit.page.locator("#stage .bar")) > 640


def mark_the_bold_word(visit) -> int:
    """Marks it as good in the completion with the fox; the number of that."""
    index = next(n for n, text in enumerate(visit.words()) if "fox" in text)
    visit.page.locator("#stage .completion").nth(index).locator("strong").dblclick()
    visit.press("j")
    visit.wait_for_text("good: “quick")
    return index


def test_marked_words_stand_where_the_model_wrote_them_behind_invisible_characters_too(open_browser, policy):
    """Each of them is shown as U+200B, six characters for one."""
    make_work(policy, 2, texts=["\u200bThe\u200b \U0001f98a and\u202e a **quick** fox", "A slow dog"], **RICH)
    visit = open_browser().ready()
    done = visit.shown
    mark_the_bold_word(visit)
    visit.press("ArrowLeft")
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    [span] = Ranking.objects.get().spans
    fox = Completion.objects.get(comparison__assignments=done, text__contains="fox")
    assert fox.text[span["start"] : span["end"]].strip() == "quick"


def test_it_keeps_marked_words_ratings_flags_reasons_and_a_better_answer(open_browser, policy):
    make_work(policy, 2, texts=["The **quick** brown fox", "A slow dog"], **RICH)
    visit = open_browser().ready()
    done = visit.shown
    visit.press("ab"[mark_the_bold_word(visit)], "m", "Space")
    visit.page.get_by_text("clearer").locator("xpath=ancestor::details").locator("summary").click()
    visit.page.get_by_text("clearer").click()
    visit.page.locator("summary", has_text="Write a better answer").click()
    visit.page.locator("textarea[name=better_answer]").fill("A quick fox.")
    visit.press("Escape", "ArrowLeft")
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    ranking = Ranking.objects.get()
    fox = Completion.objects.get(comparison__assignments=done, text__contains="fox")
    [span] = ranking.spans
    assert (span["completion"], span["label"]) == (fox.pk, "good")
    assert fox.text[span["start"] : span["end"]].strip() == "quick"
    assert ranking.flags == {str(fox.pk): ["unsafe"]}
    assert ranking.chips == ["clearer"]
    assert ranking.demonstration.text == "A quick fox."
    assert ranking.active_ms > 0
    assert ranking.first_action_ms > 0


def as_served(response) -> str | bytes:
    """Our scripts as `collectstatic` leaves them; here they come from where they lie."""
    return jsmin(response.text()) if "/static/js/" in response.url else response.body()


def test_it_works_with_the_scripts_as_they_are_served(open_browser, policy):
    make_work(policy, 4, texts=[MARKDOWN] * 4, **RICH)
    visit = open_browser(None)
    served = set()

    def serve(route):
        response = route.fetch()
        served.add(response.url.rsplit("/")[-1])
        route.fulfill(response=response, body=jsmin(response.text()))

    visit.context.route("**/static/js/*.js", serve)
    visit.person = User.objects.get(email="alice@example.org")
    visit.sign_in()
    visit.page.goto("/rank/")
    done = visit.ready().shown
    wait_until_fetched_ahead(visit)
    visit.press("l").wait_for_text("Be kind.").press("Escape", "Shift+D").page.locator("#diff-dialog").wait_for()
    visit.press("Escape", "?").page.locator("#help-dialog").wait_for()
    visit.press("Escape", "2", "1", "4", "3", "Enter").wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [2, 1, 4, 3]
    assert {"rank.js", "diff.js", "help.js", "guidelines.js"} <= served


@pytest.mark.parametrize(("k", "asked"), [(2, {}), (4, {}), (9, {}), (9, {"strength_scale": 4, **RICH})])
def test_the_whole_page_is_small_and_does_not_shift(open_browser, policy, cast, k, asked):
    make_work(policy, k, texts=[MARKDOWN] * k, **asked)
    visit = open_browser(None)
    page, ahead = [], []
    visit.page.on(
        "response", lambda each: (ahead if each.url.endswith("/rank/next/") else page).append(len(as_served(each)))
    )
    visit.page.add_init_script(
        "window.shift = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())"
        " window.shift += entry.value }).observe({type: 'layout-shift', buffered: true})"
    )
    visit.person = cast["alice"]
    visit.sign_in()
    visit.page.goto("/rank/")
    visit.ready()
    wait_until_fetched_ahead(visit)
    visit.page.wait_for_load_state("networkidle")
    wait_until(visit.page, lambda: len(ahead) >= 2)  # their bodies come after them
    assert sum(page) < PAGE_BYTES
    assert len(ahead) == 2
    if k == 4:
        assert max(ahead) < 12_000
    assert visit.page.evaluate("window.shift") == 0


def test_the_next_comparison_is_there_without_waiting_for_the_network(open_browser, policy):
    """Leased ahead and fetched: it shows with the network gone, which is quicker than any answer can come."""
    make_work(policy, 2, count=12)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    visit.page.context.set_offline(True)
    was = visit.shown
    visit.press("ArrowLeft")
    visit.wait_for_another_than(was)
    visit.page.context.set_offline(False)
    visit.wait_until_sent()
    assert visit.page.evaluate("performance.getEntriesByName('whetstone-next').length") == 1


def test_a_newcomer_gets_from_the_invitation_to_the_tenth_ranking(open_browser, policy):
    make_work(policy, 2, count=12)
    invitation = invite_person(email="dora@example.org", role="annotator")
    visit = open_browser(None, path=f"/invitations/{invitation.token}/")
    visit.page.get_by_label("Choose a password").fill("a rather long sentence")
    visit.press("Enter")
    visit.ready()
    for n in range(10):
        was = visit.shown
        visit.page.get_by_role("button", name="A is better" if n % 2 else "B is better").click()
        visit.wait_for_another_than(was)
    visit.wait_until_sent()
    assert Ranking.objects.filter(annotator__email="dora@example.org").count() == 10


def test_it_proposes_a_rest(open_browser, policy, monkeypatch):
    monkeypatch.setattr("annotate.page_data.BREAK_AFTER_MINUTES", 5 / 60)
    make_work(policy, 2, count=3)
    visit = open_browser().ready().press("a")
    visit.wait_for_text("A short rest keeps the judgement sharp.")
