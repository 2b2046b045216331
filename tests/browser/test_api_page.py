"""The API's page in a real Chromium."""

import pytest

from tests.browser.visit import LOOKS, violations

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(("scheme", "language"), LOOKS)
def test_axe_finds_nothing_with_every_call_open(open_browser, scheme, language):
    visit = open_browser("ravi", path="/api/", color_scheme=scheme)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    visit.page.goto("/api/")
    assert violations(visit.page) == []
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert violations(visit.page) == []


def test_a_call_is_found_opened_and_its_example_copied(open_browser):
    visit = open_browser("ravi", path="/api/")
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.get_by_role("link", name="policies").click()
    call = visit.page.locator("details", has_text="Make a policy")
    call.locator("summary").click()
    assert call.get_by_text("base_model", exact=True).first.is_visible()
    call.get_by_role("button", name="Copy").click()
    call.get_by_text("Copied").wait_for()
    copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -X POST")
    assert copied.endswith(f"{visit.url}/api/v1/policies/")


def test_a_link_to_a_call_opens_it(open_browser):
    visit = open_browser("ravi", path="/api/#policies_create")
    visit.page.locator("#policies_create[open]").wait_for()


def test_it_fits_a_phone_with_every_call_open(open_browser):
    visit = open_browser("ravi", path="/api/", viewport={"width": 320, "height": 640})
    visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 320
