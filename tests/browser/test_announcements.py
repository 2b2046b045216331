"""What a screen reader is told: names, descriptions and live regions, as Orca was heard to need them."""

import pytest
from playwright.sync_api import expect

from annotate.services.invitations import invite_person
from tests.browser.test_outbox import wait_until_fetched_ahead
from tests.browser.visit import make_training, make_work
from tests.worlds import make_comparison, make_pool, make_prompt


def prompt_of(visit) -> str:
    return visit.page.locator("#stage .prompt .text").last.inner_text().strip()


@pytest.mark.parametrize(
    ("key", "told"),
    [
        *(("ArrowLeft", "A is better"), ("ArrowRight", "B is better")),
        *(("ArrowDown", "Equally good"), ("ArrowUp", "Both bad")),
    ],
)
def test_it_says_what_was_answered_and_reads_the_next_prompt(open_browser, policy, key, told):
    make_work(policy, 2)
    visit = open_browser().ready()
    was = visit.shown
    visit.press(key).wait_for_another_than(was)
    assert visit.all_said == f"{told} Next: {prompt_of(visit)}"
    expect(visit.page.get_by_role("heading", name="Comparison", exact=True)).to_be_focused()


def test_what_was_skipped_and_taken_back_is_said_before_the_prompt(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    was = visit.shown
    visit.press("s", "1").wait_for_another_than(was)
    assert visit.all_said == f"Skipped Next: {prompt_of(visit)}"
    following = visit.shown
    visit.press("u").wait_for_another_than(following)
    assert visit.said == f"It is not skipped. Rank it after all. Next: {prompt_of(visit)}"
    assert visit.shown == was


def test_it_says_that_nothing_is_left(open_browser, policy):
    make_work(policy, 2, count=1)
    visit = open_browser(path="/work/")
    with visit.page.expect_response("**/rank/next/"):
        visit.page.goto("/rank/")
    visit.ready().press("ArrowLeft").wait_for_text("Nothing to rank at the moment")
    why = "The next comparisons are being written. They appear here by themselves."
    expect(visit.page.get_by_role("heading", name="Nothing to rank at the moment")).to_be_focused()  # read for it
    assert visit.all_said == f"A is better {why}"


def test_a_letter_reads_its_completion_and_a_very_long_one_in_part(open_browser, policy):
    pool = make_pool(policy, k=2)
    make_comparison(make_prompt(pool, "Which?"), ["amber", "word " * 2000])
    visit = open_browser().ready()
    short = 1 if visit.words()[0].startswith("word") else 0
    visit.press("ab"[short])
    assert visit.said == "amber"
    visit.press("ab"[1 - short])
    assert visit.said.startswith("word word")
    assert visit.said.endswith("It goes on: the rest is on the page.")
    assert len(visit.said) < 5100
    visit.press("r")
    assert visit.said == "Texts as they were written"


def test_what_was_said_goes_so_that_no_closed_dialog_says_it_again(open_browser, policy):
    make_work(policy, 4)
    visit = open_browser().ready().press("0")
    assert visit.said == "All bad"
    visit.page.locator("#announcer p").wait_for(state="detached")


def test_every_part_of_a_comparison_has_a_name_that_can_be_read(open_browser, policy):
    make_work(policy, 4)
    page = open_browser().ready().page
    for letter in "ABCD":
        article = page.get_by_role("article", name=f"Completion {letter}", exact=True)
        expect(article.get_by_role("heading", name=f"Completion {letter}", exact=True)).to_have_count(1)
        expect(article.get_by_role("group", name=f"Rank of completion {letter}")).to_have_count(1)
    expect(page.get_by_role("region", name="Prompt")).to_have_count(1)


def test_an_answer_is_saved_without_a_word_and_trouble_is_said_until_it_is_over(open_browser, policy):
    make_work(policy, 2)
    visit = open_browser().ready()
    expect(visit.page.get_by_role("status")).to_have_count(0)
    wait_until_fetched_ahead(visit)
    visit.context.set_offline(True)
    visit.press("ArrowLeft")
    expect(visit.page.get_by_role("alert")).to_contain_text("No connection: 1 answer is kept")
    visit.context.set_offline(False)
    visit.wait_until_sent()
    assert visit.said == "Saved"


def test_a_choice_of_differences_keeps_the_focus_and_says_what_is_compared(open_browser, policy):
    make_work(policy, 3, texts=["one two three", "1 two 3", "I two III"])
    visit = open_browser().ready().press("d")
    status = visit.page.locator("#diff-dialog").get_by_role("status")
    expect(status).to_have_text("A → B · Differences: 2")
    choice = visit.page.get_by_role("button", name="A → C")
    choice.focus()
    visit.press("Space")
    expect(status).to_have_text("A → C · Differences: 2")
    expect(choice).to_be_focused()
    expect(choice).to_have_attribute("aria-pressed", "true")
    expect(visit.page.get_by_role("button", name="A → B")).to_have_attribute("aria-pressed", "false")


def test_a_mark_that_is_removed_leaves_the_focus_with_the_next_and_is_told(open_browser, policy):
    make_work(policy, 2, texts=["**quick** and **brown**", "**quick** and **brown**"], asks_spans=True)
    visit = open_browser().ready()
    card = visit.page.locator("#stage .completion").first
    buttons = card.locator(".marks button")
    for n in range(2):
        card.locator("strong").nth(n).dblclick()
        visit.press("j")
        expect(buttons).to_have_count(n + 1)
    buttons.first.focus()
    visit.press("Space")
    expect(buttons).to_have_count(1)
    expect(buttons.first).to_be_focused()
    assert visit.said.startswith("Mark removed: quick")
    visit.press("Space")
    expect(buttons).to_have_count(0)
    expect(card).to_be_focused()


def test_words_of_a_text_name_its_language_wherever_they_stand(open_browser, policy):
    """In the differences, in the list of marks, and in what is said of them."""
    make_work(policy, 2, texts=["**quick** fox", "**brown** fox"], asks_spans=True)
    visit = open_browser(path="/work/")
    visit.context.add_cookies([{"name": "django_language", "value": "zh-hans", "url": visit.url}])
    visit.page.goto("/rank/")
    card = visit.ready().page.locator("#stage .completion").first
    word = card.locator("strong").inner_text()
    card.locator("strong").dblclick()
    visit.press("j")
    in_its_language = "p => [p.textContent, p.querySelector('[lang=en]').textContent]"
    assert visit.page.locator("#announcer p").last.evaluate(in_its_language) == [f"已划出： {word}", word]
    mark = card.locator(".marks li")
    expect(mark.locator("[lang=en]").first).to_have_text(word)
    assert mark.inner_text().startswith(f"好：“{word}”")
    expect(mark.get_by_role("button")).to_have_accessible_name(f"取消划线：{word}")
    visit.press("d")
    expect(visit.page.locator("#diff-dialog .diff-text")).to_have_attribute("lang", "en")


def test_feedback_is_read_out_inside_its_dialog(open_browser, policy):
    make_training(policy)
    visit = open_browser().ready()
    visit.press("ArrowLeft" if visit.words()[0] == "amber" else "ArrowRight")
    spoken = visit.page.locator("#feedback-dialog .announcer p")
    in_its_language = "p => [p.textContent, p.querySelector('[lang=en]').textContent]"  # the pool's
    told, explanation = spoken.evaluate(in_its_language)  # once: it goes again
    expect(visit.page.locator("#feedback-dialog h2")).to_be_focused()  # and is read for it
    assert "Well judged" not in told
    for part in ("The right order", "Amber glows.", "You have passed the training."):
        assert part in told
    assert explanation == "Amber glows."
    assert "Next:" not in visit.all_said  # nothing goes on behind it
    shown = visit.shown
    visit.press("Enter").wait_for_another_than(shown)
    assert visit.said.endswith(f"Next: {prompt_of(visit)}")


def test_a_refused_sign_in_goes_on_at_the_password_and_says_why(open_browser):
    page = open_browser(None, path="/account/login/").page
    page.get_by_label("E-mail address").fill("alice@example.org")
    page.get_by_label("Password").fill("not hers")
    page.keyboard.press("Enter")
    password = page.get_by_label("Password")
    expect(password).to_have_accessible_description("The e-mail address or the password is not right.")
    expect(password).to_be_focused()
    expect(page.get_by_label("E-mail address")).to_have_value("alice@example.org")


def test_an_invitation_says_with_the_field_how_long_a_password_has_to_be(open_browser):
    invitation = invite_person(email="dora@example.org", role="annotator")
    page = open_browser(None, path=f"/invitations/{invitation.token}/").page
    expect(page.get_by_label("Choose a password")).to_have_accessible_description("At least 10 characters.")
