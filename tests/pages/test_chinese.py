"""Every page in 简体中文, as each of the cast sees it: no English is left but names, codes and what a model wrote."""

import json
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone, translation

from annotate.models import Assignment, Completion, PolicyCheckpoint, PromptPool, User
from annotate.services.gold import make_gold
from annotate.services.invitations import invite_person
from annotate.services.snapshots import freeze_preferences
from tests.test_permissions import patterns_of
from tests.worlds import make_comparison, make_pool, make_prompt, make_ranking
from trainer.gate import weigh
from trainer.models import RunMetric, TrainingRun

# Machines read these, or a browser is sent on; pages of allauth's that this system shows to nobody are 302 or 404.
NO_PAGES = ("api_schema", "metrics", "healthz", "readyz", "run_chart", "run_plot", "snapshot_card")
# Text in these is code, or a name.
CODE = {"code", "pre", "kbd", "script", "style", "textarea"}
DATA = {"code", "cells"}  # classes
SPOKEN = ("aria-label", "alt", "title", "placeholder")
NAMES = re.compile(
    r"""
    \S+@\S+ | https?://\S+ | tiny(-\d)? | a-[0-9a-f]{10}                  # people, addresses, checkpoints
    | Whetstone | English | make[ ]run | README\.md | /nowhere | Orca(?:\+A)? | NVDA | JAWS | Insert\+Z   # names
    | Hugging[ ]Face | config\.json | \{"ppo":[ ]\{"updates":[ ]30\}\}
    | Email | JSONL? | CSV | Parquet | Markdown | TRL | HH | MOSS | OpenAPI | API | UTF-\d+ | PPO | KL | NLL
    | Brier | Kendall | \b(prompt|chosen|rejected|messages|token|tokens|top-p|Top-p|lora|low|train|held_out)\b
    | \b(en|fr|zh-hans|helpful|honest|harmless|mean|reward|Enter|Shift|PostgreSQL)\b
    | \b[a-z-]+\.[a-z-]+\b                                                # actions in the audit log
    """,
    re.VERBOSE,
)
WORD = re.compile(r"[A-Za-z]{2,}")


class Spoken(HTMLParser):
    """What a page says to its reader in the page's own language: text, and the attributes that are read out."""

    VOID = {"input", "br", "meta", "link", "img", "hr", "wbr", "source"}

    def __init__(self):
        super().__init__()
        self.open: list[tuple[str, bool]] = []  # tag, and whether its text is somebody else's
        self.texts: list[str] = []
        self.data: list[str] = []  # what a script is given

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        is_foreign = (
            self.is_foreign
            or tag in CODE
            or not DATA.isdisjoint(given.get("class", "").split())
            or given.get("lang", "zh-hans") != "zh-hans"
        )
        if not is_foreign:
            self.texts += [given[name] for name in SPOKEN if given.get(name)]
        if tag not in self.VOID:
            self.open.append((tag, is_foreign))
        if given.get("type") == "application/json":
            self.data.append("")

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "script" and self.data:
            self.data[-1] += data
        elif not self.is_foreign:
            self.texts.append(data)

    @property
    def is_foreign(self) -> bool:
        return bool(self.open) and self.open[-1][1]


def english_in(html: str) -> list[str]:
    page = Spoken()
    page.feed(html)
    said = [text.strip() for text in page.texts]
    for data in page.data:
        said += json.loads(data).get("strings", {}).values()
    return [text for text in said if WORD.search(NAMES.sub(" ", re.sub(r"\{\w+\}", "", text)))]


def interval(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "pairs": 40}


EVALUATION = {
    "win_rate": interval(0.4),
    "win_rate_base": interval(0.6),
    "judge": interval(0.45),
    "is_overoptimised": True,
    "kl": 20.0,
    "length": {"candidate": 90.0, "parent": 30.0},
    "distinct_2": {"candidate": 0.5, "parent": 0.6},
    "repetition": {"candidate": 0.5, "parent": 0.1},
    "samples": [{"prompt": "写一句话。", "candidate": "好。", "parent": "行。", "scores": [1.0, -1.0]}],
}
REPORT = {
    "verdict": "There is no held-out pair to measure on: rank more prompts.",
    "accuracy": interval(0.6),
    "length_baseline": interval(0.5),
    "judge": interval(0.6),
    "kendall_tau": 0.3,
    "length_correlation": 0.1,
    "calibration": {"ece": 0.1, "brier": 0.2, "nll": 0.6, "temperature": 1.1},
    "chosen": {"pooling": "mean", "layer": 3, "l2": 0.1},
    "blend": [{"pooling": "mean", "layer": 3, "l2": 0.1, "factor": 0.8}],
    "candidates": [{"pooling": "mean", "layer": 3, "l2": 0.1, "accuracy": 0.6}],
    "training_rankings": 1200,
    "slices": {name: {"1": {"accuracy": 0.6, "pairs": 3}} for name in ("annotator", "checkpoint", "length_gap")},
}


@pytest.fixture
def world(cast, policy):
    """One of everything. Names and texts are Chinese, so that whatever is English is the system's own."""
    pool = make_pool(
        policy,
        "中文题库",
        language="zh-hans",
        description="说明。",
        members_only=True,
        k=3,
        overlap=2,
        training_count=1,
        strength_scale=3,
        axes=["helpful"],
        flags=["unsafe", "names_its_model"],
        rationale_chips=["clearer"],
        **dict.fromkeys(("asks_rationale", "asks_spans", "asks_better_answer"), True),
    )
    pool.guideline_versions.update(text="请友善。")
    pool.memberships.create(user=cast["alice"], training_seen=3, training_right=2)
    pool.memberships.create(user=cast["maria"], qualified_at=timezone.now())
    pair = make_pool(policy, "两条", k=2, language="zh-hans", strength_scale=4)
    pair.guideline_versions.update(text="请友善。")
    PromptPool.objects.filter(pk=pair.pk).update(status="paused", status_reason="等新指南。")
    texts = ["甲。", "乙。", "丙。"]
    prompt = make_prompt(pool, "写一首诗。", language="zh-hans", tags=["诗"])
    prompt.messages = [{"role": role, "content": "请写。"} for role in ("system", "user", "assistant", "user")]
    prompt.save()
    comparison = make_comparison(prompt, texts, kind="fresh")
    given = make_ranking(comparison, cast["alice"], [1, 2, 3], active_ms=4000)
    make_ranking(comparison, cast["maria"], [2, 1, 3], active_ms=9000)
    right = dict(zip(comparison.completions.values_list("id", flat=True), (1, 2, 3), strict=True))
    gold = make_gold(comparison=comparison, kind="gold", ranks=right, explanation="理由。", by=cast["maria"])
    for content in ("再写一首。", "换一首。", "最后一首。"):
        fresh = make_comparison(make_prompt(pool, content, language="zh-hans"), texts)
        fresh.completions.update(finish_reason=Completion.FinishReason.LENGTH, names_its_model=True)
        make_comparison(make_prompt(pair, content, language="zh-hans"), texts[:2])
    snapshot = freeze_preferences(policy=policy, note="run 1")
    base = policy.serving
    candidate = PolicyCheckpoint.objects.create(
        policy=policy, number=1, parent=base, status="rejected", metrics={"evaluation": EVALUATION, "reward": REPORT}
    )
    verdict = weigh(EVALUATION, REPORT, {})
    candidate.status_reason = verdict.sentence
    candidate.save()
    ended = {"policy": policy, "parent": base, "snapshot": snapshot, "started_at": timezone.now()}
    TrainingRun.objects.create(status="failed", reason="The trainer failed in stage reward: 1", can_retry=True, **ended)
    TrainingRun.objects.create(status="cancelled", reason="Cancelled; it can be taken up again.", **ended)
    TrainingRun.objects.create(status="published", finished_at=timezone.now(), **ended)
    run = TrainingRun.objects.create(
        status="rejected", candidate=candidate, reason=verdict.sentence, verdict=verdict.as_dict(), **ended
    )
    active = TrainingRun.objects.create(
        policy=policy, status="ppo", stage="ppo", step=2, steps=9, seconds_left=90_000, message="reading rankings"
    )
    metrics = ("objective/scores", "objective/judge", "objective/kl", "length/mean", "length/p95", "reward/loss")
    for step in (1, 2):
        RunMetric.objects.create(run=active, stage="ppo", step=step, values=dict.fromkeys(metrics, 1.0))
    invitation = invite_person(email="dora@example.org", role="annotator", by=cast["maria"])
    return {
        "pool_id": [pool.pk, pair.pk],
        "prompt_id": [prompt.pk],
        "comparison_id": [comparison.pk, gold.pk],
        "person_id": [cast["alice"].pk, cast["sue"].pk],
        "policy_id": [policy.pk],
        "run_id": list(TrainingRun.objects.values_list("pk", flat=True)),
        "checkpoint_id": [base.pk, candidate.pk],
        "snapshot_id": [snapshot.pk],
        "assignment_id": [given.assignment_id],
        "version_id": [pool.guidelines.pk],
        "invitation_id": [invitation.pk],
        "token": [invitation.token, "none"],
        "run": run,
    }


def paths(world: dict) -> list[str]:
    """Every address, with something that exists in each of its blanks."""
    found = ["/nothing/"]
    for pattern in patterns_of(get_resolver().url_patterns):
        if pattern.name not in NO_PAGES and not pattern.name.startswith(("api_", "openai_")):
            found += filled(pattern, world)
    return found


def filled(pattern: URLPattern, world: dict) -> list[str]:
    values = {blank: world.get(blank, ["7"]) for blank in pattern.pattern.regex.groupindex}
    most = max(map(len, values.values()), default=1)
    return [
        reverse(pattern.name, kwargs={blank: found[min(place, len(found) - 1)] for blank, found in values.items()})
        for place in range(most)
    ]


def pages(client: Client, world: dict) -> dict[str, str]:
    """The HTML of every address that answers a reader with a page, be it a refusal."""
    found = {}
    client.cookies["django_language"] = "zh-hans"
    for path in paths(world):
        response = client.get(path)
        if not response.streaming and response["Content-Type"].startswith("text/html") and response.content:
            found[path] = response.text
    return found


@pytest.mark.parametrize(("name", "least"), [("maria", 45), ("alice", 45), ("nobody", 8)])
def test_no_english_is_left_on_any_page(world, cast, signed_in, name, least):
    client = Client() if name == "nobody" else signed_in(cast[name])
    found = pages(client, world)
    assert len(found) >= least, sorted(found)
    english = {path: left for path, html in found.items() if (left := english_in(html))}
    assert english == {}, english


@pytest.mark.parametrize("name", ["maria", "alice", "nobody"])
def test_its_punctuation_is_as_wide_as_its_characters(world, cast, signed_in, name):
    """No Latin brackets but around numbers; within a text, no space after what is wide enough already."""
    client = Client() if name == "nobody" else signed_in(cast[name])
    narrow = {}
    for path, html in pages(client, world).items():
        page = Spoken()
        page.feed(html)
        said = [re.sub(r"\([\d,]+\)", "", text) for text in page.texts]
        if found := [text for text in said if re.search(r"[()]|[，。、；：！？]\s+\S", text)]:
            narrow[path] = found
    assert narrow == {}


@pytest.mark.parametrize("page", ["429.html", "500.html"])
def test_the_pages_of_bad_days_are_in_chinese(page):
    with translation.override("zh-hans"):
        html = render_to_string(page)
    assert english_in(html) == []
    assert 'lang="zh-hans"' in html


def test_a_wrong_password_is_told_in_chinese(client, cast):
    client.cookies["django_language"] = "zh-hans"
    page = client.post(reverse("account_login"), {"login": "alice@example.org", "password": "wrong"})
    assert "邮箱地址或密码不正确。" in page.text
    assert english_in(page.text) == []


def test_it_answers_wrong_forms_in_chinese(world, cast, signed_in):
    client = signed_in(cast["maria"])
    client.cookies["django_language"] = "zh-hans"
    pool, policy = world["pool_id"][0], world["policy_id"][0]
    wrong = {
        reverse("pool_new"): {"language": "?", "k": 99, "temperature": "hot", "strength_scale": 1},
        reverse("pool_edit", args=[pool]): {},
        reverse("pool_guidelines", args=[pool]): {},
        reverse("pool_import", args=[pool]): {"pasted": "{", "pasted_format": "jsonl"},
        reverse("pool_members", args=[pool]): {"person": "0"},
        reverse("pool_gold_new", args=[pool, world["comparison_id"][0]]): {"kind": "?"},
        reverse("people"): {"email": "?", "role": "?"},
        reverse("policy_new"): {
            "name": "?",
            "base_model": "/nowhere",
            "recipe": '{"ppo": {"updates": "二"}}',
            "max_kl": -1,
        },
        reverse("policy_edit", args=[policy]): {"recipe": "{"},
        reverse("keys"): {"submit": "a", "undo": "a"},
        reverse("snapshots"): {},
    }
    pages_of_it = {path: client.post(path, data) for path, data in wrong.items()}
    assert {path: page.status_code for path, page in pages_of_it.items() if page.status_code not in (200, 422)} == {}
    english = {path: left for path, page in pages_of_it.items() if (left := english_in(page.text))}
    assert english == {}, english


def test_it_says_every_refusal_in_chinese(cast, signed_in, world):
    client = signed_in(cast["maria"])
    client.cookies["django_language"] = "zh-hans"
    told = {}
    for name, argument in (
        ("run_start", world["policy_id"][0]),
        ("run_resume", world["run"].pk),
        ("run_cancel", world["run"].pk),
        ("checkpoint_roll_back", world["checkpoint_id"][0]),
        ("pool_pause", world["pool_id"][0]),
        ("person_role", cast["maria"].pk),
    ):
        response = client.post(reverse(name, args=[argument]), {"role": "annotator"}, follow=True)
        told[name] = [str(message) for message in response.context["messages"]]
    assert all(len(sentences) == 1 for sentences in told.values()), told
    assert [words for sentences in told.values() for words in sentences if WORD.search(NAMES.sub("", words))] == []


def test_dates_and_numbers_are_written_as_in_chinese(cast, signed_in, world, policy):
    alice = signed_in(cast["alice"])
    alice.cookies["django_language"] = "zh-hans"
    moment = datetime(2026, 3, 4, 15, 6, tzinfo=timezone.get_current_timezone())
    Assignment.objects.filter(annotator=cast["alice"]).update(finished_at=moment)
    cast["alice"].rankings.update(created_at=moment)
    assert "2026年3月4日 15:06" in alice.get(reverse("work")).text
    maria = signed_in(cast["maria"])
    maria.cookies["django_language"] = "zh-hans"
    policy.retrain_after = 1_234_567
    policy.save()
    assert "达到 1,234,567 条时自动开始下一次运行。" in maria.get(reverse("runs")).text
    User.objects.filter(pk=cast["maria"].pk).update(last_login=timezone.now() - timedelta(days=3))
    assert re.search(r"3\s天前", maria.get(reverse("people")).text)
    User.objects.filter(pk=cast["maria"].pk).update(last_login=timezone.now() - timedelta(days=92))
    assert re.search(r"3\s个月前", maria.get(reverse("people")).text)
    User.objects.filter(pk=cast["maria"].pk).update(last_login=timezone.now() - timedelta(hours=5))
    assert re.search(r"5\s小时前", maria.get(reverse("people")).text)


def test_the_switch_names_each_language_in_itself(client, db):
    for language in ("en", "zh-hans"):
        client.cookies["django_language"] = language
        buttons = re.findall(r'name="language" [^>]*>([^<]+)<', client.get(reverse("account_login")).text)
        assert buttons == ["English", "简体中文"]


@pytest.mark.parametrize("address", ["alice@example.org", "stranger@example.org"])
def test_its_mail_is_in_chinese(client, cast, mailoutbox, address):
    client.cookies["django_language"] = "zh-hans"
    client.post(reverse("account_reset_password"), {"email": address})
    [mail] = mailoutbox
    assert mail.to == [address]
    assert "testserver" in mail.body
    said = f"{mail.subject}\n{mail.body}".replace("testserver", "")
    assert WORD.search(NAMES.sub("", said)) is None
