"""The API's page in a real Chromium: Swagger UI under the strict policy."""

import pytest

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_lists_the_calls_and_a_call_can_be_tried(open_browser):
    visit = open_browser("ravi", path="/api/")
    visit.wait_for_text("Lease the next comparison")
    visit.page.get_by_text("Policies", exact=True).first.click()
    visit.page.get_by_role("button", name="Try it out").click()
    visit.page.get_by_role("button", name="Execute").click()
    visit.page.get_by_text('"results"').first.wait_for()
