"""Correcting one's own answer: what it shows, what it keeps, how it is sent."""

import pytest

from annotate.models import PromptPool, Ranking
from annotate.services.rankings import keep_better_answer
from tests.browser.visit import RICH, make_work, ranks_as_shown, violations
from tests.worlds import make_ranking


def test_it_corrects_an_own_answer_from_my_work(open_browser, policy, cast):
    pool = make_work(policy, 3, count=1)
    given = make_ranking(pool.comparisons.get(), cast["alice"], [3, 2, 1])  # shown in the reverse order: 1 2 3
    visit = open_browser(path="/work/")
    visit.page.get_by_role("link", name="Look, correct").click()
    visit.ready()
    visit.press("a", "3", "c", "1", "Enter")
    visit.page.wait_for_url("**/work/")
    assert ranks_as_shown(given.assignment_id) == [3, 2, 1]
    assert Ranking.objects.count() == 2


def make_rich_answer(policy, cast, k: int, ranks: list[int], **fields) -> Ranking:
    """An answer of Alice's in which everything that a pool can ask for was said."""
    comparison = make_work(policy, k, count=1, strength_scale=3, **RICH).comparisons.get()
    first, *_others, last = comparison.completions.values_list("id", flat=True)
    given = make_ranking(
        comparison,
        cast["alice"],
        ranks,
        flags={str(first): ["unsafe", "untrue"]},
        axes={str(last): {"helpful": 4, "honest": 2}},
        spans=[{"completion": first, "start": 0, "end": 5, "label": "good", "note": "amber"}],
        strength=2,
        rationale="two\nlines",
        chips=["clearer"],
        **fields,
    )
    keep_better_answer(given, "A better\none.")
    return given


NOTHING_ASKED = {
    "strength_scale": 0,
    **dict.fromkeys(("axes", "flags", "rationale_chips"), []),
    **dict.fromkeys(("asks_rationale", "asks_spans", "asks_better_answer"), False),
}


@pytest.mark.parametrize("has_script", [True, False])
@pytest.mark.parametrize(("asked", "strength"), [({}, "better"), (NOTHING_ASKED, "step 2")])
def test_a_correction_shows_all_that_was_said_also_what_is_no_longer_asked(
    open_browser, policy, cast, asked, strength, has_script
):
    given = make_rich_answer(policy, cast, 4, [1, 2, 2, 3])
    PromptPool.objects.update(**{"ties_allowed": True, **asked})
    visit = open_browser(path=f"/work/{given.assignment_id}/", java_script_enabled=has_script)
    stage = visit.page.locator("#stage")
    if has_script:
        visit.ready()  # what all completions have alike is then in each
    ranks = [card.locator(".ranks :checked").get_attribute("value") for card in stage.locator(".completion").all()]
    assert ranks == ["3", "2", "2", "1"]
    *_between, first = stage.locator(".completion").all()
    last = stage.locator(".completion").first
    assert first.locator("label:has(:checked)", has_text="un").all_inner_texts() == ["unsafe", "untrue"]
    read = "all => Object.fromEntries(all.map(({ name, value }) => [name.split('-').at(-1), value]))"
    assert last.locator(".axis:visible :checked").evaluate_all(read) == {"helpful": "4", "honest": "2"}
    assert stage.locator(".strengths label:visible:has(:checked)").inner_text() == strength
    assert stage.locator(".why label:visible:has(:checked)").inner_text() == "clearer"
    assert stage.get_by_label("In your words").input_value() == "two\nlines"
    assert stage.get_by_label("What should it have said?").input_value() == "A better\none."
    if has_script:
        assert first.locator(".marks li").inner_text().startswith("good: “amber”")
        assert violations(visit.page) == []
        visit.press("Enter").wait_for_text("Nothing was changed.")


@pytest.mark.parametrize("options", [{}, {"forced_colors": "active"}, {"color_scheme": "dark"}])
def test_a_pairs_correction_shows_and_says_which_verdict_was_given(open_browser, policy, cast, options):
    given = make_rich_answer(policy, cast, 2, [1, 2])  # shown in the reverse order: B is better
    visit = open_browser(path=f"/work/{given.assignment_id}/", **options).ready()
    chosen, other = (visit.page.get_by_role("button", name=f"{letter} is better") for letter in "BA")
    assert (chosen.get_attribute("aria-pressed"), other.get_attribute("aria-pressed")) == ("true", "false")
    background = "button => getComputedStyle(button).backgroundColor"
    assert chosen.evaluate(background) != other.evaluate(background)
    assert violations(visit.page) == []
    visit.press("Enter").wait_for_text("Nothing was changed.")
    visit.press("ArrowLeft")  # how much better the other is was not said yet
    assert (chosen.get_attribute("aria-pressed"), other.get_attribute("aria-pressed")) == ("false", "true")
    assert visit.page.locator(".strengths :checked").count() == 0
    visit.press("3")
    visit.page.wait_for_url("**/work/")
    assert ranks_as_shown(given.assignment_id) == [1, 2]
    revision = Ranking.objects.get(is_current=True)
    assert (revision.strength, revision.spans) == (3, given.spans)


@pytest.mark.parametrize("all_bad", [True, False])
def test_a_correction_sent_as_it_came_is_not_stored_without_a_script_either(open_browser, policy, cast, all_bad):
    given = make_rich_answer(policy, cast, 4, [1, 2, 2, 3], all_bad=all_bad)
    visit = open_browser(path=f"/work/{given.assignment_id}/", java_script_enabled=False)
    visit.page.locator("#stage button.submit").click()
    visit.wait_for_text("Nothing was changed: your answer stands as it was.")
    assert Ranking.objects.get() == given
    assert given.demonstration.text == "A better\none."


def test_a_correction_that_another_tab_made_already_is_taken_for_sent(open_browser, policy, cast):
    given = make_rich_answer(policy, cast, 4, [1, 2, 2, 3])
    visit = open_browser(path=f"/work/{given.assignment_id}/").ready()
    visit.expected = ("422",)
    visit.press("0")
    Ranking.objects.update(all_bad=True)
    visit.press("Enter")
    visit.page.wait_for_url("**/work/")
    assert Ranking.objects.get() == given
