"""A real Chromium before a real server. Every page fails its test if the console or the content policy complains.

Where there is no Chromium these tests are skipped with a sentence; where CI=true they fail instead.

Browser, server and test are three clocks, so a test that fails here is run once more. The first failure is shown at
the end all the same: it is a race of the test or of the page, to be found. `-p no:rerunfailures` gives no second run.
"""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"{report.nodeid} failed once")
        terminalreporter.write_line(report.longreprtext)


@pytest.fixture(scope="session")
def chromium():
    if not Path(CHROMIUM).exists():
        sentence = "there is no Chromium here (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true needs the browser tests, and {sentence}")
        pytest.skip(sentence)
    from playwright.sync_api import sync_playwright

    # Playwright runs an event loop in this thread; Django would refuse to touch the database beside it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def cast(transactional_db):
    from tests.worlds import make_cast

    return make_cast()


@pytest.fixture
def open_browser(chromium, live_server, cast):
    """`open_browser("alice")`: a browser in which Alice is signed in, as a `Visit`."""
    from tests.browser.visit import Visit

    visits = []

    def opened(person: str | None = "alice", **options) -> Visit:
        visit = Visit(chromium, live_server.url, cast[person] if person else None, **options)
        visits.append(visit)
        return visit

    yield opened
    problems = [problem for visit in visits for problem in visit.problems]
    for visit in visits:
        visit.close()
    let_requests_end()
    assert problems == []


def let_requests_end(seconds: float = 5) -> None:
    """A lease that is still being taken for a page that has gone would meet the emptying of the database."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any("process_request" in each.name for each in threading.enumerate()):
        time.sleep(0.02)


@pytest.fixture
def policy(cast):
    from tests.worlds import make_policy

    return make_policy()
