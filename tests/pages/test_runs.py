"""Runs and their charts, live and after."""

import base64
import hashlib
import re
from xml.etree import ElementTree

import pytest
from django.urls import reverse

from annotate.templatetags.shares import percent
from trainer.charts import BY_NAME, MOST_POINTS, table, thinned, whole_steps
from trainer.models import RunMetric, TrainingRun
from trainer.services import finish

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    """Runs are queued; nobody takes them up in these tests."""
    monkeypatch.setattr("trainer.tasks.advance_run.apply_async", lambda *args, **kwargs: None)
    monkeypatch.setattr("trainer.tasks.fill_buffers.delay", lambda: None)


@pytest.fixture
def run(policy):
    return TrainingRun.objects.create(
        policy=policy, status="ppo", stage="ppo", step=2, steps=24, seconds_left=185, message="updating the policy"
    )


def measure(run, step, stage="ppo", **values):
    named = {name.replace("__", "/"): value for name, value in values.items()}
    return RunMetric.objects.create(run=run, stage=stage, step=step, values=named)


def news(client, run, seen=0, charts=()):
    query = {"seen": seen, "chart": list(charts)}
    return client.get(reverse("run", args=[run.pk]), query, headers={"HX-Request": "true"})


def test_it_says_what_to_do_where_there_is_no_run(maria, policy):
    text = maria.get(reverse("runs")).text
    assert "No run yet." in text
    assert "Start a run now" in text


def test_it_starts_a_run_and_watches_it(maria, policy):
    response = maria.post(reverse("run_start", args=[policy.pk]))
    started = TrainingRun.objects.get()
    assert response.url == reverse("run", args=[started.pk])
    assert started.started_by.username == "maria"


def test_it_says_that_a_run_is_at_work_already(maria, policy, run):
    response = maria.post(reverse("run_start", args=[policy.pk]), follow=True)
    assert "A run of this policy is at work already." in response.text
    assert TrainingRun.objects.count() == 1


def test_it_shows_stage_step_time_left_and_message(ravi, run):
    response = ravi.get(reverse("run", args=[run.pk]))
    assert "Step 2 of 24, about 3 minutes left in this stage: updating the policy" in response.text
    marks = [mark for _label, mark in response.context["stages"]]
    assert marks == ["done", "done", "now", "", ""]
    assert 'hx-trigger="every 2s"' in response.text


def test_it_does_not_show_the_steps_of_the_stage_before(ravi, run):
    TrainingRun.objects.filter(pk=run.pk).update(status="evaluating")
    text = ravi.get(reverse("run", args=[run.pk])).text
    assert "Step 2 of 24" not in text
    assert '<progress aria-label="evaluating">' in text


def test_it_sends_charts_only_when_there_are_new_numbers(ravi, run):
    for step in (1, 2):
        newest = measure(run, step, objective__kl=0.5)
    first = news(ravi, run, charts=["kl"])
    assert f'src="{reverse("run_chart", args=[run.pk, "kl"])}?at={newest.pk}"' in first.text
    assert 'id="rows-kl" hx-swap-oob="true"' in first.text
    assert f"seen={newest.pk}" in first.text
    again = news(ravi, run, seen=newest.pk, charts=["kl"])
    assert "hx-swap-oob" not in again.text
    assert "Step 2 of 24" in again.text


def test_it_shows_the_page_anew_when_there_is_another_chart(ravi, run):
    for step in (1, 2):
        measure(run, step, objective__kl=0.5)
    assert news(ravi, run).headers["HX-Refresh"] == "true"


def test_it_swaps_what_has_a_place_on_the_page(ravi, run):
    for step in (1, 2):
        measure(run, step, objective__kl=0.5, length__mean=30.0)
    page = ravi.get(reverse("run", args=[run.pk])).text
    shown = re.findall(r'name="chart" value="(\w+)"', page)
    assert shown == ["kl", "length"]
    targets = re.findall(r'<(?:img|thead|tbody) id="([\w-]+)"', news(ravi, run, charts=shown).text)
    assert len(targets) == 6
    assert all(f'id="{target}"' in page for target in targets)


def test_it_shows_the_page_anew_when_the_run_has_ended(ravi, run):
    finish(run, TrainingRun.Status.CANCELLED)
    assert news(ravi, run).headers["HX-Refresh"] == "true"
    assert "every 2s" not in ravi.get(reverse("run", args=[run.pk])).text


def test_it_draws_a_chart_that_is_an_image_without_script(ravi, run):
    for step in (1, 2, 3):
        measure(run, step, objective__scores=step, objective__judge=step / 2)
    response = ravi.get(reverse("run_chart", args=[run.pk, "score"]))
    assert response.headers["Content-Type"] == "image/svg+xml"
    root = ElementTree.fromstring(response.content)  # noqa: S314 our own drawing
    assert root.tag == f"{SVG}svg"
    assert not root.findall(f".//{SVG}script")
    assert len(root.findall(f".//{SVG}path[@class='line reactive nofill']")) == 2
    assert root.find(f"{SVG}title").text == "Score of what the policy writes"


def test_it_allows_the_charts_own_style_by_its_hash_and_no_other(ravi, run):
    response = ravi.get(reverse("run_chart", args=[run.pk, "kl"]))
    root = ElementTree.fromstring(response.content)  # noqa: S314 our own drawing
    style = root.find(f".//{SVG}style").text
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = response.headers["Content-Security-Policy"]
    assert f"style-src 'sha256-{hashed}'" in policy
    assert "unsafe" not in policy
    assert "prefers-color-scheme:dark" in style


def test_it_draws_an_empty_chart_where_nothing_was_measured(ravi, run):
    assert "No numbers yet" in ravi.get(reverse("run_chart", args=[run.pk, "loss"])).text


def test_it_knows_no_other_chart(ravi, run):
    assert ravi.get(reverse("run_chart", args=[run.pk, "secrets"])).status_code == 404


def test_it_puts_the_numbers_in_a_table_beside_the_chart(run):
    metrics = [measure(run, 1, length__mean=30.0), measure(run, 2, length__mean=31.0, length__p95=40.0)]
    metrics.append(measure(run, 3, objective__kl=1.0))
    labels, rows = table(BY_NAME["length"], metrics)
    assert labels == ["mean", "95th percentile"]
    assert rows == [(1, [30.0, None]), (2, [31.0, 40.0])]


@pytest.mark.parametrize("count", [1, MOST_POINTS, MOST_POINTS + 1, 1234])
def test_it_thins_out_long_runs_and_keeps_the_last_step(count):
    kept = thinned(list(range(count)))
    assert len(kept) <= MOST_POINTS
    assert kept[-1] == count - 1
    assert len({later - earlier for earlier, later in zip(kept, kept[1:], strict=False)}) <= 1


def test_it_cancels_a_run_and_takes_it_up_again(maria, run):
    page = reverse("run", args=[run.pk])
    maria.post(reverse("run_cancel", args=[run.pk]))
    assert "Asked to end" in maria.get(page).text
    finish(run, TrainingRun.Status.CANCELLED)
    maria.post(reverse("run_resume", args=[run.pk]))
    run.refresh_from_db()
    assert run.status == "queued"


def test_it_offers_a_researcher_no_button_that_is_refused(ravi, run):
    assert "Cancel" not in ravi.get(reverse("run", args=[run.pk])).text
    assert "Start a run now" not in ravi.get(reverse("runs")).text


def test_it_says_why_a_run_failed_and_whether_to_try_again(ravi, run):
    finish(run, TrainingRun.Status.FAILED, reason="Memory ran out.", can_retry=True)
    text = ravi.get(reverse("run", args=[run.pk])).text
    assert "Memory ran out." in text
    assert "Taking it up again can help" in text


def test_it_shows_the_gates_words_and_the_reward_models_report(ravi, run):
    run.verdict = {
        "sentence": "Win rate over its parent is 0.51; at least 0.55 is asked.",
        "checks": [{"name": "min_win_rate", "has_passed": False, "sentence": "Win rate over its parent is 0.51."}],
    }
    run.save()
    folder = run_folder_of(run)
    (folder / "reward").mkdir(parents=True)
    (folder / "reward" / "report.json").write_text(
        '{"verdict": "Right on 68%.", "accuracy": {"value": 0.68, "low": 0.61, "high": 0.74, "pairs": 212},'
        ' "length_baseline": {"value": 0.55, "low": 0.48, "high": 0.62, "pairs": 212},'
        ' "blend": [{"pooling": "mean", "layer": 16, "l2": 10.0}, {"pooling": "last", "layer": 20, "l2": 1.0}]}'
    )
    text = ravi.get(reverse("run", args=[run.pk])).text.replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ")
    assert "Win rate over its parent is 0.51." in text
    assert "(95 % interval 61 % to 74 %)" in text
    assert "pooling mean, layer 16, ridge 10.0" in text and "pooling last, layer 20" in text


def test_it_shows_the_plots_that_the_report_names_and_no_other_file(ravi, run):
    folder = run_folder_of(run) / "reward"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "layers.svg").write_text("<svg/>")
    (folder / "plots" / "secret.svg").write_text("<svg/>")
    (folder / "report.json").write_text('{"plots": ["plots/layers.svg", "plots/gone.svg", "../../../secret.svg"]}')
    page = ravi.get(reverse("run", args=[run.pk])).text
    address = reverse("run_plot", args=[run.pk, "layers"])
    assert address in page
    assert "gone" not in page
    assert b"".join(ravi.get(address).streaming_content) == b"<svg/>"
    (folder / "report.json").write_text('{"plots": ["plots/layers.svg"]}')
    assert ravi.get(reverse("run_plot", args=[run.pk, "secret"])).status_code == 404


def run_folder_of(run):
    from trainer.run_folder import run_folder

    return run_folder(run)


@pytest.mark.parametrize(
    ("first", "last", "marks"),
    [(1, 4, [1, 2, 3, 4]), (1, 24, [1, 5, 9, 13, 17, 21]), (3, 3, [3]), (1, 8, [1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_it_marks_whole_steps_on_the_axis(first, last, marks):
    assert whole_steps(first, last) == marks


@pytest.mark.parametrize(("share", "words"), [(2 / 3, "67"), (0.704, "70"), (0.0, "0"), (1.0, "100"), (0.125, "12")])
def test_it_rounds_shares_as_the_report_does(share, words):
    """Python's format rounds half to even, and so does the sentence in the report."""
    assert percent(share).startswith(words)
    assert f"{share:.0%}" == f"{words}%"
