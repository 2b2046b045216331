"""By keyboard alone, with the keys counted."""

import pytest
from playwright.sync_api import expect

from annotate.models import Assignment, GuidelineVersion, Ranking
from tests.browser.visit import RICH, intercept, make_work, ranks_as_shown, wait_until
from tests.worlds import make_ranking


def answer(visit, *keys) -> int:
    """Press `keys`, wait for the next comparison and for the answer's arrival; returns the assignment answered."""
    was = visit.shown
    visit.press(*keys)
    visit.wait_for_another_than(was)
    visit.wait_until_sent()
    return was


@pytest.mark.parametrize(
    ("key", "ranks", "all_bad"),
    [
        ("ArrowLeft", [1, 2], False),
        ("ArrowRight", [2, 1], False),
        ("ArrowDown", [1, 1], False),
        ("ArrowUp", [1, 1], True),
    ],
)
def test_it_ranks_a_pair_with_one_key(open_browser, policy, key, ranks, all_bad):
    make_work(policy, 2)
    done = answer(open_browser().ready(), key)
    assert ranks_as_shown(done) == ranks
    assert Ranking.objects.get().all_bad == all_bad


def test_it_ranks_four_with_five_keys(open_browser, policy):
    make_work(policy, 4)
    done = answer(open_browser().ready(), "2", "1", "4", "3", "Enter")
    assert ranks_as_shown(done) == [2, 1, 4, 3]


def test_it_ranks_nine_with_ten_keys(open_browser, policy):
    make_work(policy, 9)
    done = answer(open_browser().ready(), *"918273645", "Enter")
    assert ranks_as_shown(done) == [9, 1, 8, 2, 7, 3, 6, 4, 5]


def test_it_ties_with_the_same_digit_and_with_the_equals_sign(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    assert ranks_as_shown(answer(visit, "1", "1", "2", "2", "Enter")) == [1, 1, 2, 2]
    assert ranks_as_shown(answer(visit, "2", "=", "1", "=", "Enter")) == [2, 2, 1, 1]


def test_it_calls_all_bad_with_two_keys(open_browser, policy):
    make_work(policy, 4)
    answer(open_browser().ready(), "0", "Enter")
    ranking = Ranking.objects.get()
    assert ranking.all_bad
    assert set(ranking.ranks.values()) == {1}


@pytest.mark.parametrize("k", [3, 9])
def test_it_ties_all_with_two_keys_however_many_there_are(open_browser, policy, k):
    make_work(policy, k)
    done = answer(open_browser().ready(), "n", "Enter")
    assert ranks_as_shown(done) == [1] * k
    assert not Ranking.objects.get().all_bad


def test_all_tied_is_said_undone_and_takes_all_bad_back(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready().press("1", "2", "0", "n")
    assert visit.said == "All tied. Enter submits."
    visit.press("u", "u")
    done = answer(visit, "n", "c", "2", "Enter")
    assert ranks_as_shown(done) == [1, 1, 2]
    assert not Ranking.objects.get().all_bad


def test_where_ties_are_not_allowed_nothing_ties_all(open_browser, policy):
    make_work(policy, 3, ties_allowed=False)
    visit = open_browser().ready().press("n")
    assert visit.said == "Ties are not allowed in this pool."
    assert visit.page.locator("#stage .ranks :checked").count() == 0
    assert visit.page.get_by_role("button", name="All tied").count() == 0


def test_a_key_that_somebody_has_for_something_else_ties_nothing(open_browser, policy, cast):
    make_work(policy, 3)
    cast["alice"].keys = {"raw": "n"}
    cast["alice"].save()
    visit = open_browser().ready().press("n")
    assert visit.page.locator("#stage .raw:visible").count() == 3
    assert visit.page.locator("#stage .ranks :checked").count() == 0


def test_it_goes_to_a_completion_by_its_letter(open_browser, policy):
    make_work(policy, 4)
    done = answer(open_browser().ready(), "d", "1", "c", "2", "b", "3", "a", "4", "Enter")
    assert ranks_as_shown(done) == [4, 3, 2, 1]


def test_it_does_not_submit_before_every_completion_has_a_rank(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    visit.press("1", "2", "Enter").wait_for_text("C and D have no rank yet.")
    assert visit.said == "C and D have no rank yet."
    visit.press("3", "Enter").wait_for_text("D has no rank yet.")
    assert not Ranking.objects.exists()


def test_between_letters_and_chinese_stands_a_space(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser()
    visit.context.add_cookies([{"name": "django_language", "value": "zh-hans", "url": visit.url}])
    visit.page.goto("/rank/")
    visit.ready().press("1", "Enter").wait_for_text("B、C 和 D 还没有名次。")


def test_it_undoes_one_step_at_a_time(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    visit.press("1", "2", "u", "u")
    assert visit.page.locator("#stage .ranks :checked").count() == 0
    done = answer(visit, "a", "3", "2", "1", "Enter")
    assert ranks_as_shown(done) == [3, 2, 1]
    assert Ranking.objects.get().changes == 2


def test_it_takes_the_last_answer_back_and_stores_the_correction_as_a_revision(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    done = answer(visit, "ArrowLeft")
    following = visit.shown
    visit.press("u")
    visit.wait_for_another_than(following)
    assert visit.shown == done
    visit.press("ArrowRight")
    assert visit.wait_for_another_than(done) == following
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [2, 1]
    assert list(Ranking.objects.order_by("revision").values_list("revision", "is_current")) == [(1, False), (2, True)]


@pytest.mark.parametrize("is_offline", [False, True])
@pytest.mark.parametrize("way", ["key", "button"])
def test_the_last_answer_of_all_can_be_had_back(open_browser, policy, cast, is_offline, way):
    make_work(policy, 2, count=1)
    cast["alice"].keys = {"undo": "z"}
    cast["alice"].save()
    visit = open_browser().ready()
    undo = visit.page.locator("#stage .nothing").get_by_role("button", name="Undo")
    done = visit.shown
    visit.context.set_offline(is_offline)
    visit.press("ArrowLeft")
    undo.wait_for()
    assert undo.locator("kbd").inner_text() == "Z"
    if way == "key":
        visit.press("z")
    else:
        undo.click()
    visit.page.wait_for_selector("#stage form")
    assert visit.shown == done
    visit.press("ArrowRight")
    undo.wait_for()
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [2, 1]
    visit.page.reload()
    visit.wait_for_text("Nothing to rank at the moment")
    assert not undo.is_visible()  # nothing is there to undo


def take_back(visit) -> int:
    """Have the last answer back; returns the comparison that it came before."""
    following = visit.shown
    visit.press("u")
    visit.wait_for_another_than(following)
    return following


def test_a_correction_by_digits_goes_from_one_completion_to_the_next(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    done = answer(visit, *"1234", "Enter")
    take_back(visit)
    answer(visit, *"432", "Enter")
    assert ranks_as_shown(done) == [3, 2, 1, 3]  # 4 3 2 4, without the place that nobody took


def test_in_a_correction_the_equals_sign_ties_with_the_completion_before(open_browser, policy, cast):
    pool = make_work(policy, 3, count=1)
    given = make_ranking(pool.comparisons.get(), cast["alice"], [3, 2, 1])  # shown in the reverse order: 1 2 3
    visit = open_browser(path=f"/work/{given.assignment_id}/").ready()
    visit.press("=", "b", "=", "Enter")  # there is none before A
    visit.page.wait_for_url("**/work/")
    assert ranks_as_shown(given.assignment_id) == [1, 1, 2]  # 1 1 3, without the place that nobody took


def outcome_of(visit) -> str:
    return visit.page.locator("#saved").inner_text()


def test_saved_goes_when_a_correction_begins(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    done = answer(visit, "ArrowLeft")
    assert outcome_of(visit) == "Saved"
    take_back(visit)
    assert outcome_of(visit) == ""
    visit.press("ArrowRight").wait_for_another_than(done)
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [2, 1]


def test_an_answer_that_is_stored_while_it_is_corrected_is_not_said_to_be_saved(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    done, held = visit.shown, []
    intercept(visit.page, "**/ranking/", lambda route: held.append(route))
    visit.press("ArrowLeft").wait_for_another_than(done)
    take_back(visit)
    assert outcome_of(visit) == "1 waiting"
    wait_until(visit.page, lambda: held)
    with visit.page.expect_response("**/ranking/"):
        held[0].continue_()
    visit.page.wait_for_function("() => document.getElementById('saved').textContent !== '1 waiting'")
    assert outcome_of(visit) == ""


def test_the_digit_that_completes_an_answer_can_be_mended_at_once(open_browser, policy):
    make_work(policy, 4)
    assert ranks_as_shown(answer(open_browser().ready(), *"1233", "4", "Enter")) == [1, 2, 3, 4]


@pytest.mark.parametrize(("k", "keys"), [(2, ["ArrowLeft"]), (3, [*"123", "Enter"])])
def test_a_correction_that_changes_nothing_is_not_stored(open_browser, policy, k, keys):
    make_work(policy, k)
    visit = open_browser().ready()
    done = answer(visit, *keys)
    following = take_back(visit)
    visit.press(*keys).wait_for_text("Nothing was changed.")
    assert visit.wait_for_another_than(done) == following
    take_back(visit)
    assert visit.shown == done  # it can still be had back
    assert Ranking.objects.get().revision == 1


STOP = """() => {
    const { innerText, labels } = document.activeElement;
    const top = Math.round(document.activeElement.getBoundingClientRect().top);
    return [labels?.[0]?.innerText.trim() || innerText.split("\\n").join(" ").trim(), top];
}"""


@pytest.mark.parametrize(
    ("key", "first", "last"),
    [
        ("s", "1 I do not read this language well enough", ["It cannot be ranked X", "Back"]),
        ("x", "1 The prompt makes no sense", ["Back"]),
    ],
)
def test_tab_goes_through_reasons_words_and_buttons_as_they_stand(open_browser, policy, key, first, last):
    make_work(policy, 3)
    visit = open_browser().ready().press(key)
    visit.page.locator("dialog[open]").wait_for()
    found = []
    for _stop in range(6 + len(last)):
        found.append(visit.page.evaluate(STOP))
        visit.press("Tab")
    words, tops = zip(*found, strict=True)
    assert words[0] == first
    assert [one[:1] for one in words[:4]] == list("1234")
    assert list(words[4:]) == ["In your words", "5 Another reason", *last]
    assert list(tops) == sorted(tops)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("s", "2"), "skip: knowledge"),
        (("x", "1"), "not rankable: no_sense"),
        (("s", "x", "1"), "not rankable: no_sense"),
        (("s", "5", "Enter", "d", "u", "l", "l", "Enter"), "skip: other · dull"),
    ],
)
def test_it_leaves_a_comparison_with_a_reason(open_browser, policy, monkeypatch, keys, reason):
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 0)
    make_work(policy, 3)
    visit = open_browser().ready()
    done = answer(visit, *keys)
    skipped = Assignment.objects.get(pk=done)
    assert (skipped.status, skipped.skip_reason) == ("skipped", reason)


def test_a_skip_can_be_had_back_while_it_is_held(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    done = visit.shown
    visit.press("1", "s", "2")
    following = visit.wait_for_another_than(done)
    visit.press("u").wait_for_text("It is not skipped. Rank it after all.")
    assert visit.shown == done
    visit.press("3", "2", "Enter")  # A has its rank still
    assert visit.wait_for_another_than(done) == following
    visit.wait_until_sent()
    assert ranks_as_shown(done) == [1, 3, 2]


def test_a_skip_that_can_be_had_back_is_not_said_to_wait(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    done = visit.shown
    saved = "text => document.getElementById('saved').textContent === text"
    visit.press("s", "2")
    following = visit.wait_for_another_than(done)
    visit.page.wait_for_function(saved, arg="Skipped")
    visit.press("u")
    assert visit.wait_for_another_than(following) == done
    visit.page.wait_for_function(saved, arg="")  # nothing was kept


def test_a_skip_that_was_sent_stays_one(open_browser, policy, monkeypatch):
    monkeypatch.setattr("annotate.page_data.SKIP_HELD_SECONDS", 0)
    make_work(policy, 3)
    visit = open_browser().ready()
    done = answer(visit, "s", "2")
    following = visit.shown
    visit.press("u")
    assert visit.said.startswith("Nothing to take back")
    assert visit.shown == following
    assert Assignment.objects.get(pk=done).status == "skipped"


def test_it_asks_how_much_better_where_the_pool_does(open_browser, policy):
    make_work(policy, 2, strength_scale=3)
    visit = open_browser().ready()
    answer(visit, "ArrowRight", "3")
    answer(visit, "ArrowLeft", "Enter")
    assert list(Ranking.objects.order_by("id").values_list("strength", flat=True)) == [3, None]


def test_it_asks_how_much_better_the_first_of_four_is_and_costs_no_key_who_does_not_say(open_browser, policy):
    make_work(policy, 4, strength_scale=3)
    visit = open_browser().ready()
    answer(visit, *"1234", "Enter")
    answer(visit, *"1234", "t", "t", "Enter")
    answer(visit, *"1234", *"tttt", "Enter")  # through the scale, and open again
    answer(visit, *"1234", "t", "t", "u", "Enter")
    answer(visit, *"1111", "t", "Enter")  # no first, no next
    assert list(Ranking.objects.order_by("id").values_list("strength", flat=True)) == [None, 2, None, 1, None]


def test_a_correction_asks_again_how_much_better(open_browser, policy):
    make_work(policy, 2, strength_scale=3)
    visit = open_browser().ready()
    done = answer(visit, "ArrowRight", "3")
    following = visit.shown
    visit.press("u")
    visit.wait_for_another_than(following)
    visit.press("ArrowLeft", "1")
    visit.wait_for_another_than(done)
    visit.wait_until_sent()
    assert Ranking.objects.get(is_current=True).strength == 1


def test_a_digit_beyond_the_scale_takes_no_strength_away(open_browser, policy):
    make_work(policy, 2, strength_scale=3)
    visit = open_browser().ready()
    done = answer(visit, "ArrowRight", "2")
    following = visit.shown
    visit.press("u")
    assert visit.wait_for_another_than(following) == done
    visit.press("4", "9")
    assert visit.shown == done
    assert visit.page.locator("#stage .strengths :checked").get_attribute("value") == "2"
    visit.press("Enter").wait_for_text("Nothing was changed.")


def test_it_keeps_still_while_an_input_method_composes(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'ArrowLeft', isComposing: true, bubbles: true, cancelable: true}));"
        "document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'ArrowLeft', keyCode: 229, bubbles: true, cancelable: true}))"
    )
    done = answer(visit, "ArrowRight")  # the first that is taken
    assert ranks_as_shown(done) == [2, 1]
    assert Ranking.objects.count() == 1


def test_the_numeric_pads_arrows_are_arrows(open_browser, policy):
    """Playwright's Numpad4 is pressed without NumLock: its key is ArrowLeft."""
    make_work(policy, 2)
    assert ranks_as_shown(answer(open_browser().ready(), "Numpad4")) == [1, 2]


def test_it_takes_keys_in_a_text_field_as_text(open_browser, policy):
    make_work(policy, 2, asks_rationale=True)
    visit = open_browser().ready()
    visit.press("w")
    visit.page.keyboard.type("a 1 2 u s = 0")
    visit.press("ArrowLeft", "Escape")
    answer(visit, "ArrowLeft")
    assert Ranking.objects.get().rationale == "a 1 2 u s = 0"


def test_it_follows_the_persons_own_keys(open_browser, policy, cast):
    make_work(policy, 2)
    cast["alice"].keys = {"pick_first": "q", "pick_second": "p"}
    cast["alice"].save()
    done = answer(open_browser().ready(), "p")
    assert ranks_as_shown(done) == [2, 1]


def test_a_sign_that_is_typed_with_shift_leads_to_its_completion(open_browser, policy, cast):
    make_work(policy, 3)
    cast["alice"].keys = {"focus_1": "!"}
    cast["alice"].save()
    visit = open_browser().ready().press("b", "Shift+Digit1")
    assert visit.said == visit.words()[0]


def test_it_works_with_tab_and_space_alone(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    was, found = visit.shown, 0
    for _ in range(60):
        visit.press("Tab")
        name = visit.page.evaluate("document.activeElement.name ?? ''")
        if name.startswith("rank-"):
            visit.press("Space" if found == 0 else "ArrowRight")
            for _step in range(max(0, found - 1)):
                visit.press("ArrowRight")
            found += 1
        if visit.page.evaluate("document.activeElement.matches('button.submit')"):
            break
    visit.press("Space")
    visit.wait_for_another_than(was)
    visit.wait_until_sent()
    assert ranks_as_shown(was) == [1, 2, 3]


def test_a_rank_that_an_arrow_passes_over_goes_back_to_whoever_had_it(open_browser, policy):
    """Without ties a rank is one completion's, and an arrow on the radios comes past those of the others."""
    make_work(policy, 3, ties_allowed=False)
    visit = open_browser().ready()
    was = visit.shown
    for index in range(3):
        visit.page.locator("#stage .completion").nth(index).locator("input[name^=rank-]").first.focus()
        visit.press("Space", *["ArrowRight"] * index)
        if index == 1:
            assert "A: no rank" in visit.all_said
            assert "A: rank 1" in visit.all_said
    visit.press("Enter").wait_for_another_than(was)
    visit.wait_until_sent()
    assert ranks_as_shown(was) == [1, 2, 3]


def test_a_rank_given_twice_gives_nothing_back(open_browser, policy):
    make_work(policy, 3, ties_allowed=False)
    visit = open_browser().ready()
    was = visit.shown
    visit.press("1", "b", "1", "b", "1", "c", "3", "a", "2", "Enter").wait_for_another_than(was)
    visit.wait_until_sent()
    assert ranks_as_shown(was) == [2, 1, 3]


WIDE = "|" + "|".join(f"column {n} of many" for n in range(40)) + "|\n" + "|-" * 40 + "|\n" + "|x" * 40 + "|"


def test_an_arrow_scrolls_what_has_the_focus_and_scrolls(open_browser, policy):
    """WCAG 2.1.1; elsewhere the same arrow answers a pair."""
    pool = make_work(policy, 2, texts=[WIDE, "short"])
    GuidelineVersion.objects.create(pool=pool, version=2, text="Be kind.\n\n" * 200)
    visit = open_browser(viewport={"width": 640, "height": 400}).ready()
    done = visit.shown
    visit.press("l")
    panel = visit.page.locator("#guidelines-panel")
    expect(panel).to_be_focused()
    visit.press("ArrowDown")
    assert not Ranking.objects.exists()
    visit.wait_for_text("Be kind.").press("ArrowDown")
    visit.page.wait_for_function("() => document.querySelector('#guidelines-panel').scrollTop > 0")
    visit.press("Escape")
    table = visit.page.locator("#stage table")
    for _ in range(60):
        visit.press("Tab")
        if table.evaluate("table => table === document.activeElement"):
            break
    visit.press("ArrowRight")
    visit.page.wait_for_function("() => document.querySelector('#stage table').scrollLeft > 0")
    assert visit.shown == done
    assert not Ranking.objects.exists()
    visit.page.locator("#stage h1").focus()
    answer(visit, "ArrowRight")


def test_arrows_that_mean_nothing_scroll_the_page(open_browser, policy):
    make_work(policy, 4, texts=["word " * 600] * 4)
    visit = open_browser().ready().press("ArrowDown")
    visit.page.wait_for_function("() => scrollY > 0")


def test_a_letter_of_another_script_is_the_key_of_its_place(open_browser, policy):
    """A Russian keyboard: the key S writes ы."""
    make_work(policy, 2)
    visit = open_browser().ready()
    pressed = "new KeyboardEvent('keydown', {code: 'KeyS', key: 'ы', bubbles: true})"
    visit.page.evaluate(f"() => document.activeElement.dispatchEvent({pressed})")
    expect(visit.page.locator("#skip-dialog")).to_be_visible()


def test_closing_what_a_key_opened_leaves_the_focus_there(open_browser, policy):
    make_work(policy, 4, **RICH)
    visit = open_browser().ready()
    for key, place in (("m", ".completion.is-active"), ("w", ".why summary")):
        visit.press(key)
        expect(visit.page.locator("#stage :is(textarea, input):focus")).to_have_count(1)
        visit.press(key)
        expect(visit.page.locator(f"#stage {place}").first).to_be_focused()


def test_the_focus_comes_to_the_sentence_after_the_last_comparison(open_browser, policy):
    make_work(policy, 2, count=1)
    visit = open_browser().ready().press("ArrowLeft").wait_for_text("Nothing to rank at the moment")
    expect(visit.page.locator("#stage h1")).to_be_focused()


STOP_NUMBER = """() => {
  const [one, stops] = [document.activeElement, window.stops ??= []];
  if (one === document.body) return null;
  if (!stops.includes(one)) stops.push(one);
  return stops.indexOf(one);
}"""


@pytest.mark.parametrize("key", ["Tab", "Shift+Tab"])
def test_the_focus_comes_past_everything_once_and_out_of_the_page(open_browser, policy, key):
    """No keyboard trap (WCAG 2.1.2), with all that a pool can ask for and every panel open."""
    make_work(policy, 4, strength_scale=3, **RICH)
    visit = open_browser().ready().press("l")
    visit.page.locator("#guidelines-panel:visible").wait_for()
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    rounds = [[]]
    while len(rounds) < 3 and len(rounds[-1]) < 200:
        visit.press(key)
        stop = visit.page.evaluate(STOP_NUMBER)
        rounds[-1].append(stop) if stop is not None else rounds.append([])
    whole = rounds[1]
    assert len(rounds) == 3
    assert len(whole) == len(set(whole)) > 40
    assert set(rounds[0]) <= set(whole)


def test_it_shows_differences_raw_text_guidelines_and_keys(open_browser, policy):
    make_work(policy, 4, texts=["**one** two three", "**one** two four", "one", "two"])
    visit = open_browser().ready()
    visit.press("Shift+D")
    dialog = visit.page.locator("#diff-dialog")
    dialog.locator("ins, del").first.wait_for()
    visit.press("Escape")
    dialog.wait_for(state="hidden")
    visit.press("r")
    assert "**one**" in "".join(visit.page.locator("#stage .raw:visible").all_inner_texts())
    visit.press("l")
    visit.wait_for_text("Be kind.")
    visit.press("Escape", "?")
    visit.page.locator("#help-dialog").wait_for()


def focused(visit) -> str:
    return visit.page.evaluate(
        "document.activeElement.closest('.completion')?.querySelector('h2').lastChild.data ?? document.activeElement.id"
    )


def test_closed_guidelines_give_the_focus_back_to_where_it_was(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    visit.press("b", "l").page.locator("#guidelines-panel").wait_for()
    assert focused(visit) == "guidelines-panel"
    visit.press("Escape")
    assert focused(visit) == "B"
    visit.page.locator("#guidelines-link").focus()
    visit.press("Enter", "Tab", "Enter")  # the panel's own button
    assert focused(visit) == "guidelines-link"


def test_closed_guidelines_take_the_focus_from_nobody_who_worked_on_beside_them(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    done = visit.shown
    visit.press("b", "l").page.locator("#guidelines-panel").wait_for()
    visit.press("c", "Escape")
    assert focused(visit) == "C"
    visit.press("l", "1", "2", "3", "Enter")  # with the focus in the panel
    visit.wait_for_another_than(done)
    visit.page.locator("#guidelines-panel").focus()
    visit.press("Escape")
    assert visit.page.evaluate("document.activeElement === document.querySelector('#stage h1')")


def parts_of_the_difference(visit) -> set[str]:
    """What is in only one of the two."""
    changed = visit.page.locator("#diff-dialog .diff-text :is(ins, del)")
    changed.first.wait_for()
    return set(changed.all_inner_texts())


@pytest.mark.parametrize(
    ("texts", "by_word", "by_character"),
    [
        (["The colour of honey", "The color of honey"], {"colour", "color"}, {"u"}),
        (["今天天气很好", "今天空气很好"], {"天", "空"}, {"天", "空"}),
    ],
)
def test_differences_are_shown_by_word_and_by_character(open_browser, policy, texts, by_word, by_character):
    make_work(policy, 2, texts=texts)
    visit = open_browser().ready().press("d")
    assert parts_of_the_difference(visit) == by_word
    visit.page.get_by_role("button", name="Letter by letter").click()
    visit.page.wait_for_function("() => document.querySelector('.diff-unit').getAttribute('aria-pressed') === 'true'")
    assert parts_of_the_difference(visit) == by_character


def test_differences_that_cannot_be_loaded_say_so(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    visit.expected = ("net::ERR_FAILED",)
    intercept(visit.page, "**/js/diff*.js", lambda route: route.abort())
    visit.press("d").wait_for_text("The differences cannot be loaded now.")
    assert visit.said == "The differences cannot be loaded now."


def test_differences_that_come_after_the_answer_are_not_shown_over_the_next(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    held = []
    intercept(visit.page, "**/js/diff*.js", lambda route: held.append(route))
    with visit.page.expect_request("**/js/diff*.js") as asked:
        visit.press("d")
    answer(visit, "ArrowLeft")
    held[0].continue_()
    visit.page.evaluate("async address => { await import(address) }", asked.value.url)  # after those who asked before
    assert not visit.page.locator("#diff-dialog").is_visible()
    visit.press("d").page.locator("#diff-dialog").wait_for()


def test_it_says_what_a_key_did_and_that_all_have_a_rank(open_browser, policy):
    make_work(policy, 3)
    visit = open_browser().ready()
    visit.press("1")
    assert visit.said == "A: rank 1"
    visit.press("2", "3")
    assert visit.said == "C: rank 3. Every completion has a rank. Enter submits."


@pytest.mark.parametrize(
    ("k", "fields", "keys", "groups"),
    [
        (2, {}, "← → ↓ ↑ a b ↵ u s x d r p l ?", ["Answer", "Read"]),
        (3, {"ties_allowed": False, "asks_spans": True}, "a b c 1 2 3 0 ↵ u s x j k d r p l ?", None),
    ],
)
def test_the_list_of_keys_holds_those_that_do_something_here(open_browser, policy, k, fields, keys, groups):
    make_work(policy, k, count=1, flags=[], **fields)
    visit = open_browser().ready().press("?")
    shown = visit.page.locator("#help-dialog kbd:visible")
    shown.first.wait_for()
    assert shown.all_text_contents() == keys.split()
    titles = visit.page.locator("#help-dialog tbody th:visible").all_text_contents()
    assert titles == (groups or ["Answer", "Say more", "Read"])
    visit.page.locator("#help-dialog .close").click()
    shown.first.wait_for(state="hidden")


def test_the_list_of_keys_is_fetched_with_the_first_question_and_says_so_where_it_cannot_be(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready()
    dialog = visit.page.locator("#help-dialog")
    assert dialog.count() == 0
    visit.context.set_offline(True)
    visit.press("?").wait_for_text("The list of keys cannot be loaded now.")
    visit.context.set_offline(False)
    visit.press("?")
    dialog.wait_for()
    visit.press("Escape")
    dialog.wait_for(state="hidden")
    visit.context.set_offline(True)
    visit.press("?")
    dialog.wait_for()
    assert dialog.count() == 1


def test_without_a_script_the_keys_have_a_page(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser(java_script_enabled=False)
    visit.page.wait_for_url("**/rank/?in_full=1")  # else it comes while the link is pressed
    visit.page.get_by_role("link", name="Keys").click()
    visit.wait_for_text("Keys of the ranking page")
    said = visit.page.locator("noscript p:visible").inner_text()
    assert said.startswith("Keys take a script, and this browser runs none.")


@pytest.mark.parametrize(
    ("k", "own", "printed"), [(3, {}, "d"), (4, {}, "⇧d"), (4, {"diff": "b"}, "⇧b"), (4, {"diff": "g"}, "g")]
)
def test_it_prints_shift_where_a_completion_has_the_letter(open_browser, policy, cast, k, own, printed):
    make_work(policy, k, count=1)
    cast["alice"].keys = own
    cast["alice"].save()
    visit = open_browser().ready()
    badges = visit.page.locator("kbd[data-key=diff]")
    assert badges.all_text_contents() == [printed]
    visit.press("?").page.locator("#help-dialog").wait_for()
    assert badges.all_text_contents() == [printed] * 2  # in the list as well
    visit.press("Escape")
    visit.press(printed.replace("⇧", "Shift+"))
    visit.page.locator("#diff-dialog").wait_for()


def test_it_prints_the_persons_own_keys(open_browser, policy, cast):
    make_work(policy, 2)
    cast["alice"].keys = {"skip": "z", "pick_first": "F2"}
    cast["alice"].save()
    visit = open_browser().ready()
    printed = visit.page.locator("#stage .bar kbd").all_inner_texts()
    assert "Z" in printed
    assert "F2" in printed
    assert "←" not in printed
