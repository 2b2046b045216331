"""A corpus of hostile completions on the real page: no script runs, no request leaves, the policy has no complaint."""

import pytest
from django.contrib.sessions.models import Session
from django.db import transaction

from annotate.models import GuidelineVersion
from tests.browser.test_outbox import wait_until_fetched_ahead
from tests.browser.visit import make_work
from tests.test_rendering import HOSTILE

MORE = [
    ">" * 5_000 + "deep",
    "- " * 3_000 + "deep",
    "x" * 1_000_000,
    "word " * 200_000,
    "\u202egnp.exe\u202c \u2066hidden\u2069 zero\u200bwidth \ufeff",
    "Z" + "\u0335\u0321\u0322\u0327" * 500,
    "`" * 3_000 + "<script>alert(1)</script>",
    "| a | b |\n|---|---|\n" + "| <img src=x onerror=alert(1)> | x |\n" * 200,
    "[click](https://evil.example/?q=1) <https://evil.example> https://evil.example",
]
SHORT = [*HOSTILE, *MORE[:2], *MORE[4:]]
AT_ONCE = [*(SHORT[nth::5] for nth in range(5)), MORE[2:4]]  # up to nine, as one comparison has them


@pytest.mark.parametrize("texts", AT_ONCE)
def test_hostile_completions_are_harmless(open_browser, policy, texts):
    make_work(policy, len(texts), count=1, texts=[text.replace("\x00", "") for text in texts])
    visit = open_browser()
    visit.page.on("dialog", lambda dialog: visit.problems.append(f"dialog: {dialog.message}"))
    visit.ready()
    visit.press("r", "r")
    visit.page.mouse.move(300, 300)
    visit.page.wait_for_timeout(300)
    width = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0
    assert visit.page.locator("#stage .text :is(script, style, form, iframe, img, svg, input, button)").count() == 0


@pytest.mark.parametrize("texts", AT_ONCE)
def test_hostile_completions_are_harmless_in_their_differences_too(open_browser, policy, texts):
    make_work(policy, len(texts), count=1, texts=[text.replace("\x00", "") for text in texts])
    visit = open_browser()
    visit.page.on("dialog", lambda dialog: visit.problems.append(f"dialog: {dialog.message}"))
    visit.ready().press("Shift+D")
    shown, choices = (visit.page.locator(f"#diff-dialog .diff-{part}") for part in ("text", "choice button"))
    written = visit.page.locator("#stage .raw").all_text_contents()
    choices.nth(len(texts) - 2).wait_for()
    for _unit in ("word", "letter"):
        for n in range(1, len(texts)):
            choices.nth(n - 1).click()
            assert shown.locator(":not(ins, del)").count() == 0
            for mark, text in (("ins", written[0]), ("del", written[n])):  # without what the other has, each is whole
                kept = "(element, mark) => [...element.childNodes].filter(each => each.localName !== mark)"
                assert shown.evaluate(f"{kept}.map(each => each.textContent).join('')", mark) == text
        width = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert width <= 0
        visit.page.locator(".diff-unit").click()


def test_a_link_opens_only_after_a_warning_that_shows_the_address(open_browser, policy):
    make_work(policy, 2, count=1, texts=["[click](https://evil.example/?q=1)", "none"])
    visit = open_browser().ready()
    with visit.context.expect_page() as opened:
        visit.page.get_by_role("link", name="click").click()
    opened.value.wait_for_load_state()
    assert opened.value.url.startswith(visit.url + "/leave/")
    assert "https://evil.example/?q=1" in opened.value.inner_text("main")


def test_a_long_conversation_is_folded_and_opens(open_browser, policy):
    pool = make_work(policy, 2, count=1)
    prompt = pool.prompts.get()
    prompt.messages = [
        {"role": role, "content": f"turn {n}"} for n, role in enumerate(["user", "assistant"] * 4 + ["user"])
    ]
    prompt.save()
    visit = open_browser().ready()
    assert not visit.page.get_by_text("turn 0").is_visible()
    assert visit.page.locator("#stage .prompt").get_by_text("turn 8").is_visible()
    visit.page.get_by_text("6 earlier messages").click()
    assert visit.page.get_by_text("turn 0").is_visible()


def test_right_to_left_text_stands_right(open_browser, policy):
    make_work(policy, 2, count=1, texts=["مرحبا بالعالم", "hello"])
    visit = open_browser().ready()
    directions = dict(
        zip(
            visit.words(),
            visit.page.locator("#stage .completion > .text p").evaluate_all(
                "all => all.map(p => getComputedStyle(p).direction)"
            ),
            strict=True,
        )
    )
    assert directions == {"مرحبا بالعالم": "rtl", "hello": "ltr"}


def test_open_guidelines_are_those_of_the_comparison_on_the_screen(open_browser, policy):
    pool = make_work(policy, 2, count=4)
    visit = open_browser().ready()
    wait_until_fetched_ahead(visit)
    GuidelineVersion.objects.create(pool=pool, version=2, text="Be brief.")
    visit.press("l").wait_for_text("Be kind.")
    for _answer in range(3):
        done = visit.shown
        visit.press("ArrowLeft").wait_for_another_than(done)
    visit.wait_for_text("Be brief.")
    assert visit.page.get_by_text("Be kind.").count() == 0


def test_guidelines_opened_while_signed_out_say_so_and_are_there_after_signing_in(open_browser, policy):
    make_work(policy, 2, count=1)
    visit = open_browser()
    visit.expected = ("401", "403")
    visit.ready()
    Session.objects.all().delete()
    visit.press("l").wait_for_text("The guidelines cannot be loaded now.")
    visit.press("l")
    visit.sign_in()  # as if in another window
    visit.press("l").wait_for_text("Be kind.")


def test_a_comparison_without_guidelines_closes_those_of_the_one_before_and_opens_none(open_browser, policy):
    make_work(policy, 2, count=1)
    visit = open_browser().ready()
    visit.press("l").wait_for_text("Be kind.")
    with transaction.atomic():  # else the page may fetch it with guidelines
        make_work(policy, 2, count=1, name="a pool without")
        GuidelineVersion.objects.filter(pool__name="a pool without").delete()
    done = visit.shown
    visit.press("ArrowLeft").wait_for_another_than(done)
    panel = visit.page.locator("#guidelines-panel")
    assert not panel.is_visible()
    visit.press("l")
    assert not panel.is_visible()
