"""What axe finds on an annotator's pages: nothing; and how they follow who wants contrast, own colours or no motion."""

import re

import pytest
from django.test import Client

from annotate.services.invitations import invite_person
from tests.browser.visit import LOOKS, MARKDOWN, RICH, lend_elsewhere, make_training, make_work, violations
from tests.worlds import make_ranking


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("k", [2, 4, 9])
def test_axe_finds_nothing_on_the_ranking_page(open_browser, policy, k, scheme):
    make_work(policy, k, count=3, texts=[MARKDOWN] * 9, strength_scale=3, **RICH)
    visit = open_browser(color_scheme=scheme).ready()
    assert violations(visit.page) == []
    visit.press("m", "w", "y", "Escape")
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert violations(visit.page) == []


@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "zh-hans")])
@pytest.mark.parametrize("key", ["?", "s", "x", "Shift+D", "l"])
def test_axe_finds_nothing_in_the_dialogs(open_browser, policy, key, scheme, language):
    make_work(policy, 4)
    visit = open_browser(path="/work/", reduced_motion="reduce", color_scheme=scheme)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    visit.page.goto("/rank/")
    visit.ready().press(key)
    visit.page.locator("dialog[open], #guidelines-panel:visible").wait_for()
    assert violations(visit.page) == []


def open_in(open_browser, scheme, language):
    visit = open_browser(path="/work/", reduced_motion="reduce", color_scheme=scheme)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    visit.page.goto("/rank/")
    return visit.ready()


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_in_the_feedback_of_training(open_browser, policy, scheme, language):
    make_training(policy)
    visit = open_in(open_browser, scheme, language).press("ArrowLeft")
    visit.page.locator("#feedback-dialog").wait_for()
    assert violations(visit.page) == []


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_in_the_dialog_of_a_refused_answer(open_browser, policy, cast, scheme, language):
    make_work(policy, 2)
    visit = open_in(open_browser, scheme, language)
    visit.expected = ("409",)
    lend_elsewhere(visit.shown, cast["bob"])
    visit.press("ArrowLeft").page.locator("#problem-dialog").wait_for()
    assert violations(visit.page) == []


def paths_of_an_annotator(cast, policy) -> list[str]:
    pool = make_work(policy, 3, count=2)
    given = make_ranking(pool.comparisons.last(), cast["alice"], [1, 2, 3])
    guidelines = pool.guidelines.pk
    cast["alice"].set_password("a rather long sentence")  # whoever has none is sent to another page than to change it
    cast["alice"].save()
    return [
        *("/rank/", "/rank/keys/", "/work/", "/work/changes/", f"/work/{given.assignment_id}/"),
        *(f"/guidelines/{guidelines}/", "/leave/?to=https%3A%2F%2Fexample.org%2F", "/nothing/", "/account/logout/"),
        "/account/password/change/",
    ]


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_on_the_annotators_other_pages(open_browser, policy, cast, scheme, language):
    paths = paths_of_an_annotator(cast, policy)
    visit = open_browser(color_scheme=scheme)
    visit.expected = ("404",)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    found = {}
    for path in paths:
        visit.page.goto(path)
        if problems := violations(visit.page):
            found[path] = problems
    assert found == {}


DOORS = [
    "/account/login/",
    "/account/password/reset/",
    "/account/password/reset/done/",
    "/account/password/reset/key/done/",
    "/account/password/reset/key/0-none/",
    "/account/inactive/",
    "/account/signup/",
    "/invitations/no/",
]


def link_to_a_new_password(mailoutbox) -> str:
    Client().post("/account/password/reset/", {"email": "alice@example.org"})
    return re.search(r"/account/password/reset/key/\S+", mailoutbox[-1].body)[0]


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_at_the_door(open_browser, cast, mailoutbox, scheme, language):
    invitation = invite_person(email="dora@example.org", role="annotator")
    visit = open_browser(None, color_scheme=scheme)
    visit.expected = ("410",)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    found = {}
    for path in (*DOORS, f"/invitations/{invitation.token}/", link_to_a_new_password(mailoutbox)):
        visit.page.goto(path)
        found[path] = violations(visit.page)
    assert visit.page.locator("[type=password]").count() == 2  # it was the form
    assert {path: problems for path, problems in found.items() if problems} == {}


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_where_there_is_nothing_to_rank(open_browser, policy, scheme, language):
    visit = open_browser(color_scheme=scheme)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    for path in ("/rank/", "/work/"):
        visit.page.goto(path)
        assert violations(visit.page) == []


CUT_OFF = """[...document.querySelectorAll("main :is(button, input, select, textarea)")]
    .filter(one => one.checkVisibility() && !one.matches("[type=radio], [type=checkbox], [type=hidden]"))
    .filter(one => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth)
    .map(one => one.outerHTML.slice(0, 100))"""


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_annotators_pages_fit_320_pixels(open_browser, policy, cast, language):
    """The width of a phone of 360, and of a window of 1280 at 400 % (WCAG 1.4.10)."""
    paths = paths_of_an_annotator(cast, policy)
    visit = open_browser(viewport={"width": 320, "height": 640})
    visit.expected = ("404",)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    found = {}
    for path in paths:
        visit.page.goto(path)
        wider = visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wider > 0 or (cut := visit.page.evaluate(CUT_OFF)):
            found[path] = wider or cut
    assert found == {}


def test_forced_colours_still_show_which_completion_is_marked(open_browser, policy):
    make_work(policy, 4, count=3, strength_scale=3)
    visit = open_browser(forced_colors="active").ready().press("1", "2", "t")
    assert violations(visit.page) == []
    look = "card => getComputedStyle(card).outlineStyle"
    assert visit.page.locator("#stage .completion.is-active").evaluate(look) != "none"


def test_forced_colours_still_show_where_one_is_and_what_is_pressed(open_browser, policy):
    """A transparent underline is not transparent there."""
    make_work(policy, 3, count=3, texts=["word " * 2000] * 3)
    make_work(policy, 3, count=3, texts=["word " * 2000] * 3, name="another")
    visit = open_browser(forced_colors="active").ready().press("p", "r", "d")
    visit.page.locator("#diff-dialog .diff-choice [aria-pressed=true]").wait_for()
    looks = "all => [...new Set(all.map(one => getComputedStyle(one).outlineStyle))]"
    for part in (
        ".site-nav a",
        ".pool-choice a",
        ".languages button",
        "#panes-button",
        "[data-act=raw]",
        ".diff-choice *",
    ):
        chosen = ":is([aria-current], [aria-pressed=true])"
        assert visit.page.locator(f"{part}{chosen}").evaluate_all(looks) == ["solid"], part
        assert "solid" not in visit.page.locator(f"{part}:not({chosen}, :focus)").evaluate_all(looks)


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(…)` (WCAG 2.2)."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_more_contrast_is_given_to_who_wants_it(open_browser, policy, scheme):
    """Without it a text has 13 : 1 at least, a quieter word 7 : 1, and the edge of a completion 1.4 : 1."""
    make_work(policy, 4, count=3, strength_scale=3)
    visit = open_browser(contrast="more", color_scheme=scheme).ready().press("1", "2", "t")
    assert violations(visit.page) == []
    card = visit.page.locator("#stage .completion:not(.is-active)").first
    look = "one => { const { color, borderTopColor: edge, backgroundColor: ground } = getComputedStyle(one);"
    text, edge, ground = card.evaluate(f"{look} return [color, edge, ground] }}")
    quiet = card.locator("h2").evaluate(f"{look} return color }}")
    assert contrast(text, ground) == pytest.approx(21)  # black and white: all there is
    assert contrast(quiet, ground) > 16
    assert contrast(edge, ground) > 7


def test_nothing_moves_for_who_wants_less_motion(open_browser, policy):
    make_work(policy, 4, count=3)
    visit = open_browser(reduced_motion="reduce").ready().press("1", "2")
    durations = "all => [...new Set(all.map(one => getComputedStyle(one).transitionDuration))]"
    assert visit.page.locator("body *").evaluate_all(durations) == ["0s"]
    assert visit.page.evaluate("document.getAnimations().length") == 0
