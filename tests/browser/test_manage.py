"""Managers' and researchers' pages in a browser: accessible, as narrow as a phone, live without losing one's place."""

import pytest
from django.urls import reverse

from annotate.models import PolicyCheckpoint
from annotate.services.gold import make_gold
from annotate.services.invitations import invite_person
from annotate.services.snapshots import freeze_preferences
from tests.browser.visit import violations
from tests.worlds import make_comparison, make_pool, make_prompt, make_ranking
from trainer.models import RunMetric, TrainingRun

REPORT = {
    "verdict": "Right on 68% of 212 held-out pairs.",
    "accuracy": {"value": 0.68, "low": 0.61, "high": 0.74, "pairs": 212},
    "length_baseline": {"value": 0.55, "low": 0.48, "high": 0.62, "pairs": 212},
    "calibration": {"ece": 0.04, "brier": 0.21, "nll": 0.61, "temperature": 1.1},
    "blend": [{"pooling": "mean", "layer": 16, "l2": 10.0}, {"pooling": "last", "layer": 20, "l2": 1.0}],
    "candidates": [{"pooling": "mean", "layer": 16, "l2": 100.0, "accuracy": 0.66}],
    "slices": {"language": {"en": {"accuracy": 0.68, "pairs": 212}}},
}
EVALUATION = {
    "win_rate": {"value": 0.61, "low": 0.52, "high": 0.69, "n": 96},
    "kl": 6.3,
    "length": {"candidate": 31.0, "parent": 29.0},
    "samples": [
        {
            "prompt": "Write about the sea",
            "candidate": "**Waves.**",
            "parent": "No, the sea is dull.",
            "scores": [1.0, 0.1],
            "terms": [
                [[0, 2, 0.2], [2, 7, 3.0], [7, 8, 0.4], [8, 10, 0.2]],
                [[0, 2, -1.2], [2, 7, 0.8], [7, 11, 2.1], [11, 14, -0.1], [14, 19, -3.0], [19, 20, -0.4]],
                None,
            ],
        }
    ],
}


@pytest.fixture
def world(cast, policy):
    """One of everything that a page can show; the addresses of the pages by name."""
    pool = make_pool(policy, "Letters", overlap=2)
    comparison = make_comparison(make_prompt(pool, "Write about the sea", tags=["poem"]), ["waves", "no", "sea"])
    for person, ranks in (("alice", [1, 3, 2]), ("bob", [1, 2, 3])):
        make_ranking(comparison, cast[person], ranks, active_ms=9000)
    ids = list(comparison.completions.values_list("id", flat=True))
    order = dict(zip(ids, [1, 3, 2], strict=True))
    make_gold(comparison=comparison, kind="gold", ranks=order, explanation="It keeps to the sea.", by=cast["maria"])
    pool.memberships.create(user=cast["alice"])
    invite_person(email="emil@example.org", role="annotator", by=cast["maria"])
    snapshot = freeze_preferences(policy=policy, created_by=cast["maria"])
    trained = PolicyCheckpoint.objects.create(
        policy=policy, number=1, parent=policy.serving, metrics={"evaluation": EVALUATION, "reward": REPORT}
    )
    done = TrainingRun.objects.create(
        policy=policy,
        status="published",
        stage="evaluate",
        snapshot=snapshot,
        candidate=trained,
        verdict={"sentence": "It passed.", "checks": [{"has_passed": True, "sentence": "KL is 6.3; at most 12."}]},
    )
    active = TrainingRun.objects.create(policy=policy, status="ppo", stage="ppo", step=2, steps=24, seconds_left=90)
    for run in (done, active):
        for step in (1, 2):
            RunMetric.objects.create(run=run, stage="ppo", step=step, values={"objective/kl": 0.5 * step})
    pages = {
        name: reverse(name, args=[pool.pk])
        for name in (
            *("pool", "pool_edit", "pool_guidelines", "pool_members"),
            *("pool_prompts", "pool_import", "pool_gold"),
        )
    }
    pages |= {name: reverse(name) for name in ("pools", "pool_new", "policy_new", "people", "audit")}
    pages |= {name: reverse(name) for name in ("runs", "checkpoints")}
    pages |= {name: reverse(name) for name in ("preferences", "snapshots")}
    return pages | {
        "pool_gold_new": reverse("pool_gold_new", args=[pool.pk, comparison.pk]),
        "policy_edit": reverse("policy_edit", args=[policy.pk]),
        "person": reverse("person", args=[cast["alice"].pk]),
        "run": reverse("run", args=[done.pk]),
        "run_at_work": reverse("run", args=[active.pk]),
        "checkpoint": reverse("checkpoint", args=[trained.pk]),
        "snapshot": reverse("snapshot", args=[snapshot.pk]),
    }


@pytest.mark.parametrize(
    ("colours", "language"), [("light", "en"), ("dark", "en"), ("light", "zh-hans"), ("dark", "zh-hans")]
)
def test_it_breaks_no_rule_of_accessibility_on_any_page(open_browser, world, colours, language):
    visit = open_browser("maria", path=world["pools"], color_scheme=colours)
    visit.context.add_cookies([{"name": "django_language", "value": language, "url": visit.url}])
    broken = {}
    for name, address in world.items():
        visit.page.goto(address)
        for summary in visit.page.locator("main summary").all():
            summary.click()
        broken[name] = violations(visit.page)
    assert {name: found for name, found in broken.items() if found} == {}


def test_it_fits_every_page_on_a_phone(open_browser, world):
    visit = open_browser("maria", path=world["pools"], viewport={"width": 360, "height": 780})
    wider = {}
    for name, address in world.items():
        visit.page.goto(address)
        wider[name] = visit.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert {name: pixels for name, pixels in wider.items() if pixels > 0} == {}


def test_it_shows_a_run_as_it_goes_and_leaves_open_what_is_open(open_browser, world):
    visit = open_browser("ravi", path=world["run_at_work"])
    page, run = visit.page, TrainingRun.objects.get(status="ppo")
    page.get_by_text("Numbers: KL").click()
    row = page.locator("#rows-kl tr")
    assert row.count() == 2
    RunMetric.objects.create(run=run, stage="ppo", step=3, values={"objective/kl": 1.25})
    TrainingRun.objects.filter(pk=run.pk).update(step=3, message="updating the policy")
    visit.wait_for_text("Step 3 of 24")
    row.get_by_text("1.2500").wait_for()
    page.wait_for_function("() => document.getElementById('chart-kl').naturalWidth > 0")
    TrainingRun.objects.filter(pk=run.pk).update(status="failed", reason="Memory ran out.")
    visit.wait_for_text("Memory ran out.")


def test_it_waits_for_the_first_numbers_of_a_run_without_a_complaint(open_browser, world):
    run = TrainingRun.objects.get(status="ppo")
    run.metrics.all().delete()
    visit = open_browser("ravi", path=world["run_at_work"])
    for step in (1, 2):
        RunMetric.objects.create(run=run, stage="ppo", step=step, values={"objective/kl": 0.5})
    visit.page.locator("#chart-kl").wait_for()


def test_it_previews_guidelines_as_they_are_written(open_browser, world):
    visit = open_browser("maria", path=world["pool_guidelines"])
    visit.page.fill("textarea", "Be **brief**.")
    visit.page.locator("#preview strong", has_text="brief").wait_for()


def test_it_finds_prompts_as_one_types(open_browser, world):
    visit = open_browser("maria", path=world["pool_prompts"])
    visit.page.get_by_label("Words").press_sequentially("mountain")
    visit.wait_for_text("No prompt fits.")
    visit.page.wait_for_url("**q=mountain*")  # nothing fits the first half of the word either


def test_it_shows_other_rows_when_the_format_changes(open_browser, world):
    visit = open_browser("ravi", path=world["preferences"])
    visit.page.get_by_label("Format").select_option("hh")
    visit.page.locator("#found a[href*='format=hh']").wait_for()
    assert "\n\nHuman: Write about the sea\n\nAssistant: waves" in visit.page.locator("#found td").first.text_content()


def test_it_pauses_a_pool_without_script(open_browser, world):
    visit = open_browser("maria", path=world["pool"], java_script_enabled=False)
    visit.page.get_by_text("Pause…").click()
    visit.page.get_by_label("Why?").fill("The prompts are being mended.")
    visit.page.get_by_role("button", name="Pause this pool").click()
    visit.wait_for_text("The prompts are being mended.")
