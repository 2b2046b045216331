"""One person's browser at the ranking page."""

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.db import transaction
from django.test import Client
from django.utils import timezone

from annotate.models import Assignment, Comparison, PromptPool, Ranking, User
from annotate.services.assignments import lease_next_comparison, release_expired_leases
from annotate.services.gold import make_gold
from tests.worlds import make_comparison, make_pool, make_prompt

WORDS = ["amber", "birch", "cedar", "dune", "ember", "fern", "grove", "heath", "iris"]
NETWORK_ERRORS = re.compile(r"net::ERR_(INTERNET_DISCONNECTED|CONNECTION_REFUSED|EMPTY_RESPONSE|CONNECTION_RESET)")
AXE = {"rules": {"target-size": {"enabled": True}}}  # WCAG 2.2's own rule is off unless it is asked for


MARKDOWN = """# Title

Some *text*, `code`, $a^2$, [a link](https://example.org).

```python
x = 1
```

|a|b|
|-|-|
|1|2|
"""

RICH = {
    "axes": ["helpful", "honest"],
    "rationale_chips": ["clearer"],
    "asks_rationale": True,
    "asks_spans": True,
    "asks_better_answer": True,
}

LOOKS = list(product(["light", "dark"], ["en", "zh-hans"]))


def violations(page) -> list[str]:
    """What axe-core finds on a page as it stands: the rule and the element."""
    page.wait_for_function("() => document.getAnimations().length === 0")  # no colour is on its way to another
    found = Axe().run(page, options=AXE).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


PROBE = re.compile("is-intercepted$")
ASK = """() => fetch(document.querySelector("link[rel=stylesheet]").href + "?is-intercepted")
  .then(({ status }) => status, () => "offline")"""


def intercept(page, pattern: str, handler, **options) -> None:
    """Have `handler` decide about the requests that match; on return it really does.

    Playwright's `route` returns a moment before Chromium asks it: about 6 in 100 requests made at once passed it by.
    """
    page.route(pattern, handler, **options)
    page.route(PROBE, lambda route: route.fulfill(status=204))
    if not any(page.evaluate(ASK) == 204 for _ in range(200)):
        raise AssertionError(f"requests to {pattern} are not intercepted")
    page.unroute(PROBE)


def wait_until(page, condition: Callable[[], object]) -> None:
    """For what the test itself hears of, such as a request that is held: page calls alone let that come."""
    for _attempt in range(400):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came")


def make_work(policy, k: int, count: int = 6, texts: list[str] | None = None, **fields) -> PromptPool:
    """A pool with `count` comparisons of `k` completions, each one word that tells which it is."""
    pool = make_pool(policy, fields.pop("name", f"pool of {k}"), k=k, **fields)
    for n in range(count):
        make_comparison(make_prompt(pool, f"Prompt {n}: which word is best?"), (texts or WORDS)[:k])
    return pool


def make_training(policy, count: int = 1) -> PromptPool:
    """A pool whose annotators pass one training comparison of `count`: of `amber`, the better, and `birch`."""
    pool = make_work(policy, 2, count=count + 2, training_count=1)  # whoever did a copy never gets its original
    for comparison in pool.comparisons.order_by("id")[:count]:
        ranks = {pk: rank for rank, pk in enumerate(comparison.completions.values_list("id", flat=True), start=1)}
        make_gold(comparison=comparison, kind="training", ranks=ranks, explanation="Amber glows.", by=None)
    return pool


class Visit:
    """A context of its own: cookies, storage, and every complaint of its pages in `problems`."""

    def __init__(self, chromium, url: str, person: User | None, path: str = "/rank/", open_context=None, **options):
        self.url, self.person = url, person
        self.problems: list[str] = []
        self.context = (open_context or chromium.new_context)(base_url=url, locale="en-GB", **options)
        self.context.on("page", self.watch)
        if person:
            self.sign_in()
        self.page = self.context.new_page()
        self.page.goto(path)

    def watch(self, page) -> None:
        page.on("console", lambda message: self.note(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", lambda request: self.check_origin(request.url))

    def note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not NETWORK_ERRORS.search(text) and not self.is_expected(text):
            self.problems.append(f"{kind}: {text}")

    expected: tuple[str, ...] = ()

    def is_expected(self, text: str) -> bool:
        return any(part in text for part in self.expected)

    def check_origin(self, address: str) -> None:
        if urlsplit(address).scheme in ("http", "https") and not address.startswith(self.url):
            self.problems.append(f"request that leaves the page: {address}")

    def sign_in(self) -> None:
        client = Client()
        client.force_login(self.person)
        value = client.cookies[settings.SESSION_COOKIE_NAME].value
        self.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": value, "url": self.url}])

    def ready(self):
        """Wait until the script works and a comparison is on the stage."""
        self.page.wait_for_selector("html[data-ready]")
        self.page.wait_for_selector("#stage form")
        return self

    def press(self, *keys: str):
        for key in keys:
            self.page.keyboard.press(key)
        return self

    @property
    def shown(self) -> int:
        """The assignment on the stage."""
        return int(self.page.get_attribute("#stage form", "data-assignment"))

    def wait_for_another_than(self, assignment: int) -> int:
        self.page.wait_for_function(
            "was => { const form = document.querySelector('#stage form');"
            " return form && form.dataset.assignment !== String(was) }",
            arg=assignment,
        )
        return self.shown

    def words(self) -> list[str]:
        """The words on the stage, in the order shown."""
        return [text.strip() for text in self.page.locator("#stage .completion > .text").all_inner_texts()]

    @property
    def said(self) -> str:
        """What a screen reader was told last."""
        return self.page.locator("#announcer p").last.inner_text()

    @property
    def all_said(self) -> str:
        """What it was told in the last seconds."""
        return " ".join(self.page.locator("#announcer p").all_inner_texts())

    def wait_until_sent(self):
        self.page.wait_for_function("() => document.getElementById('saved').textContent === 'Saved'")
        return self

    def wait_for_text(self, text: str):
        self.page.get_by_text(text).first.wait_for()
        return self

    def close(self) -> None:
        self.context.close()


@transaction.atomic
def lend_elsewhere(assignment_id: int, annotator: User) -> None:
    """The lease ran out, the tick was at it, and somebody else has the comparison now.

    At once: a page that fetches ahead in between would have its comparison again.
    """
    assignment = Assignment.objects.get(pk=assignment_id)
    Assignment.objects.filter(pk=assignment_id).update(expires_at=timezone.now() - timedelta(minutes=1))
    release_expired_leases()
    Comparison.objects.filter(pk=assignment.comparison_id).update(priority=99)
    assert lease_next_comparison(annotator=annotator).comparison_id == assignment.comparison_id


def ranks_as_shown(assignment_id: int) -> list[int]:
    """The stored ranks of an answer, in the order in which its completions were shown."""
    assignment = Assignment.objects.get(pk=assignment_id)
    ranking = Ranking.objects.get(assignment=assignment, is_current=True)
    return [ranking.ranks[str(pk)] for pk in assignment.order]
