"""My work: the numbers are right, answers can be corrected until they are used, and keys are one's own."""

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.urls import reverse
from django.utils import timezone

from annotate.keys import ACTIONS
from annotate.models import Policy, PolicyCheckpoint, PreferenceSnapshot, PromptPool, Ranking
from annotate.own_work import LEAST_PROMPTS, changes_by_policy, own_numbers
from annotate.progress import agreement
from annotate.services.rankings import Answer, keep_better_answer, revise_ranking
from annotate.views.work import ANSWERS_A_PAGE
from tests.worlds import make_comparison, make_pool, make_prompt, make_ranking


@pytest.fixture
def alice(cast, signed_in):
    return signed_in(cast["alice"])


@pytest.fixture
def shared(policy):
    """Three comparisons of three that two people may answer."""
    pool = make_pool(policy, "Shared", k=3, overlap=2)
    return [make_comparison(make_prompt(pool, f"prompt {n}"), ["a", "b", "c"]) for n in range(3)]


def freeze(policy, *rankings) -> PreferenceSnapshot:
    snapshot = PreferenceSnapshot.objects.create(policy=policy, content_hash="x", size=len(rankings))
    snapshot.rankings.set(rankings)
    return snapshot


def answer_again(given, active_ms: int) -> None:
    revise_ranking(
        assignment_id=given.assignment_id,
        annotator=given.annotator,
        idempotency_key="corrected",
        answer=Answer({int(pk): rank for pk, rank in given.ranks.items()}, rationale="Now why.", active_ms=active_ms),
    )


def test_it_counts_times_and_compares(cast, shared):
    for comparison, ms in zip(shared, (4000, 6000, 20_000), strict=True):
        make_ranking(comparison, cast["alice"], [1, 2, 3], active_ms=ms)
    make_ranking(shared[0], cast["bob"], [1, 2, 3])  # τ-b 1
    make_ranking(shared[1], cast["bob"], [3, 2, 1])  # τ-b −1
    make_ranking(shared[2], cast["bob"], [1, 3, 2])  # τ-b ⅓
    answer_again(Ranking.objects.get(annotator=cast["alice"], active_ms=6000), active_ms=1000)
    numbers = own_numbers(cast["alice"])
    assert (numbers["count"], numbers["count_today"], numbers["corrections"]) == (3, 3, 1)
    assert numbers["median_seconds"] == 6  # a correction takes a moment, and is no answer more
    assert numbers["active_hours"] == pytest.approx(31 / 3600)
    assert numbers["agreement"] == pytest.approx(1 / 9)
    assert numbers["agreement_pairs"] == 3


def test_a_correction_is_no_answer_of_its_day(cast, shared):
    given = make_ranking(shared[0], cast["alice"], [1, 2, 3])
    Ranking.objects.update(created_at=timezone.now() - timedelta(days=3))
    answer_again(given, active_ms=1000)
    numbers = own_numbers(cast["alice"])
    assert (numbers["count"], numbers["count_today"], numbers["corrections"]) == (1, 0, 1)


def test_training_is_no_answer_of_ones_own(alice, cast, shared):
    make_ranking(shared[0], cast["alice"], [1, 2, 3], counts=False, active_ms=9000)
    shared[0].kind = "training"
    shared[0].save()
    numbers = own_numbers(cast["alice"])
    assert (numbers["count"], numbers["count_today"], numbers["median_seconds"]) == (0, 0, None)
    assert numbers["active_hours"] == pytest.approx(9 / 3600)  # it was work all the same
    assert "No answers yet." in alice.get("/work/").text


def test_agreement_on_gold_is_no_agreement_with_others(cast, shared):
    """Everybody is asked gold, and what they agree on there is the gold."""
    for comparison, order in zip(shared, ([1, 2, 3], [3, 2, 1], [1, 2, 3]), strict=True):
        make_ranking(comparison, cast["alice"], [1, 2, 3])
        make_ranking(comparison, cast["bob"], order)
    type(shared[0]).objects.filter(pk=shared[0].pk).update(kind="gold")
    numbers = own_numbers(cast["alice"])
    assert (numbers["agreement"], numbers["agreement_pairs"]) == (0, 2)
    assert agreement() == (0, 2)  # which managers see of the pool


def test_own_agreement_stands_with_what_it_rests_on(alice, cast, shared):
    make_ranking(shared[0], cast["alice"], [1, 2, 3])
    make_ranking(shared[0], cast["bob"], [1, 3, 2])
    page = alice.get("/work/").text
    assert "agreement with others, −1 to 1 (1 compared)</dt><dd>0.33</dd>" in page


def test_gold_counts_at_the_first_attempt(alice, cast, shared):
    given = make_ranking(shared[0], cast["alice"], [3, 2, 1])
    right = {str(key): rank for rank, key in enumerate(reversed(given.assignment.order), start=1)}
    type(shared[0]).objects.filter(pk=shared[0].pk).update(kind="gold", gold_ranks=right)
    assert own_numbers(cast["alice"])["gold_percent"] == 0
    answer = {f"rank-{key}": rank for key, rank in right.items()}
    assert alice.post(reverse("correction", args=[given.assignment_id]), {**answer, "key": "k"}).status_code == 302
    assert Ranking.objects.get(is_current=True).ranks == right
    assert own_numbers(cast["alice"])["gold_percent"] == 0


def test_it_lists_own_answers_in_letters_as_they_were_shown(alice, cast, shared):
    make_ranking(shared[0], cast["alice"], [2, 1, 1])  # shown in the reverse order: c b a
    make_ranking(shared[1], cast["bob"], [1, 2, 3])
    page = alice.get("/work/").text
    assert "A = B &gt; C" in page
    assert "prompt 0" in page
    assert "prompt 1" not in page


def test_it_corrects_with_a_new_revision(alice, cast, shared):
    given = make_ranking(shared[0], cast["alice"], [1, 2, 3])
    address = reverse("correction", args=[given.assignment_id])
    assert "value=1 checked" in alice.get(address).text
    answer = {f"rank-{key}": 1 for key in given.assignment.order}
    alice.post(address, {**answer, "key": "again"})
    alice.post(address, {**answer, "key": "again"})
    assert list(Ranking.objects.order_by("revision").values_list("revision", "is_current")) == [(1, False), (2, True)]


@pytest.mark.parametrize(
    ("ranks", "all_bad", "verdict"),  # ranks by id; shown in the reverse order
    [([2, 1], False, "first"), ([1, 2], False, "second"), ([1, 1], False, "tie"), ([1, 1], True, "bad")],
)
def test_a_pairs_correction_shows_the_verdict_that_was_given(alice, cast, policy, ranks, all_bad, verdict):
    comparison = make_comparison(make_prompt(make_pool(policy, "Pairs", k=2), "p"), ["a", "b"])
    given = make_ranking(comparison, cast["alice"], ranks, all_bad=all_bad)
    page = alice.get(reverse("correction", args=[given.assignment_id])).text
    assert re.findall(r'value="(\w+)" aria-pressed="true"', page) == [verdict]
    assert page.count('aria-pressed="false"><kbd') == 3


def test_a_fresh_pair_shows_none(alice, cast, policy):
    make_comparison(make_prompt(make_pool(policy, "Pairs", k=2), "p"), ["a", "b"])
    assert 'aria-pressed="true"' not in alice.get("/rank/").text


def test_a_plain_correction_that_changes_nothing_is_not_stored(alice, cast, policy):
    pool = make_pool(policy, "Rich", k=2, strength_scale=3)
    comparison = make_comparison(make_prompt(pool, "p"), ["a", "b"])
    given = make_ranking(comparison, cast["alice"], [1, 2], strength=2, rationale="two\nlines", chips=["clearer"])
    keep_better_answer(given, "Better\nso.")
    address = reverse("correction", args=[given.assignment_id])
    same = {"verdict": "second", "strength": 2, "rationale": "two\r\nlines", "chip": "clearer"}  # shown as b, a
    page = alice.post(address, {**same, "better_answer": "Better\r\nso.", "key": "k"}, follow=True)
    assert page.redirect_chain == [("/work/", 302)]
    assert "Nothing was changed: your answer stands as it was." in page.text
    assert Ranking.objects.get() == given


def test_a_plain_correction_keeps_the_marks_that_no_form_can_show(alice, cast, policy):
    comparison = make_comparison(make_prompt(make_pool(policy, "Pairs", k=2, asks_spans=True), "p"), ["a", "b"])
    marks = [{"completion": comparison.completions.first().pk, "start": 0, "end": 1, "label": "bad", "note": "a"}]
    given = make_ranking(comparison, cast["alice"], [1, 2], spans=marks)
    address = reverse("correction", args=[given.assignment_id])
    assert "Corrected." in alice.post(address, {"verdict": "first", "key": "k"}, follow=True).text
    assert Ranking.objects.get(is_current=True).spans == marks


@pytest.mark.parametrize("ranks", [[1, 2], [1, 1]])
def test_a_correction_keeps_what_the_pool_no_longer_asks(alice, cast, policy, ranks):
    """Sent as a browser sends the form: every control that is set, and a reason that is new."""
    asked = {"strength_scale": 3, "axes": ["kind"], "flags": ["unsafe", "untrue"], "rationale_chips": ["clearer"]}
    pool = make_pool(policy, "Rich", k=2, **asked)
    comparison = make_comparison(make_prompt(pool, "p"), ["a", "b"])
    first, second = comparison.completions.values_list("pk", flat=True)
    given = make_ranking(
        comparison,
        cast["alice"],
        ranks,
        strength=3 if ranks == [1, 2] else None,
        axes={str(first): {"kind": 4}},
        flags={str(second): ["untrue"]},
        chips=["clearer"],
        rationale="So it is.",
    )
    keep_better_answer(given, "Better so.")
    nothing = {"axes": [], "flags": [], "rationale_chips": [], "strength_scale": 0}
    PromptPool.objects.update(**nothing, ties_allowed=False, asks_rationale=False, asks_better_answer=False)
    address = reverse("correction", args=[given.assignment_id])
    sent = Form(alice.get(address).text).sent
    assert alice.post(address, sent | {"rationale": "So it is, I think."}).status_code == 302
    corrected = Ranking.objects.get(is_current=True)
    assert (corrected.revision, corrected.rationale) == (2, "So it is, I think.")
    same = ("ranks", "strength", "axes", "flags", "chips")
    assert [getattr(corrected, name) for name in same] == [getattr(given, name) for name in same]
    assert corrected.demonstration.text == "Better so."


class Form(HTMLParser):
    """What a browser sends of a page's form: the controls that are set, and of a pair the button that is pressed."""

    def __init__(self, page: str):
        super().__init__()
        self.sent: dict[str, list[str]] = {}
        self.area = None  # the one whose text comes next
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        is_set = "checked" in given or given.get("type") == "hidden" or given.get("aria-pressed") == "true"
        if tag in ("input", "button") and is_set and "name" in given:
            self.sent.setdefault(given["name"], []).append(given.get("value", ""))
        self.area = given.get("name") if tag == "textarea" else None

    def handle_endtag(self, tag):
        self.area = None

    def handle_data(self, data):
        if self.area:
            self.sent[self.area] = [data]


def test_a_correction_leads_back_to_the_page_of_my_work_it_was_opened_from(alice, cast, policy):
    pool = make_pool(policy, "Pairs", k=2)
    for n in range(ANSWERS_A_PAGE + 1):
        make_ranking(make_comparison(make_prompt(pool, f"p{n}"), ["a", "b"]), cast["alice"], [1, 2])
    [address] = re.findall(r'href="(/work/\d+/\?page=2)"', alice.get("/work/?page=2").text)
    assert '<a href="/work/?page=2">' in alice.get(address).text
    for key in ("one", "two"):  # corrected, and then nothing to correct
        assert alice.post(address, {"verdict": "first", "key": key}).url == "/work/?page=2"


def test_it_corrects_nothing_that_a_snapshot_used(alice, cast, shared, policy):
    given = make_ranking(shared[0], cast["alice"], [1, 2, 3])
    freeze(policy, given)
    page = alice.get(reverse("correction", args=[given.assignment_id]), follow=True)
    assert "A snapshot has used this answer already; it can no longer be changed." in page.text
    assert Ranking.objects.count() == 1
    assert '<span class="muted">frozen</span>' in alice.get("/work/").text


@pytest.mark.parametrize(("is_frozen", "status"), [(False, 422), (True, 409)])
def test_a_plain_correction_that_is_refused_comes_again_as_it_was_filled_in(
    alice, cast, shared, policy, is_frozen, status
):
    type(shared[0].pool).objects.update(asks_rationale=True, ties_allowed=False)
    given = make_ranking(shared[0], cast["alice"], [1, 2, 3], rationale="so")
    if is_frozen:
        freeze(policy, given)
    said = {f"rank-{key}": 2 for key in given.assignment.order} | {"rationale": "because"}
    page = alice.post(reverse("correction", args=[given.assignment_id]), {**said, "key": "k"})
    assert page.status_code == status
    assert re.findall(r"name=rank-\d+ value=(\d) checked", page.text) == ["2", "2", "2"]
    assert ">because</textarea>" in page.text
    assert Ranking.objects.get() == given


def test_nobody_corrects_anothers_answer(alice, cast, shared):
    given = make_ranking(shared[0], cast["bob"], [1, 2, 3])
    assert alice.get(reverse("correction", args=[given.assignment_id])).status_code == 404


def test_it_says_what_ones_answers_changed(alice, cast, shared, policy):
    given = [make_ranking(comparison, cast["alice"], [1, 2, 3]) for comparison in shared]
    freeze(policy, *given[:2])
    base = policy.serving
    PolicyCheckpoint.objects.update(status="retired")
    PolicyCheckpoint.objects.create(
        policy=policy,
        number=1,
        parent=base,
        status="serving",
        metrics={
            "reward": {"accuracy": {"value": 0.703, "low": 0.6, "high": 0.8, "pairs": 90}},
            "evaluation": {"win_rate": {"value": 0.81, "low": 0.745, "high": 0.87, "n": 100}},
        },
    )
    [found] = changes_by_policy(cast["alice"])
    assert found["used"] == 2
    assert found["accuracy"] == {"percent": 70, "low_percent": 60, "high_percent": 80}
    page = alice.get("/work/changes/").text
    assert "81 %" in page
    assert "by the reward model’s judgement" in page
    assert "2 of your answers" in page


def test_it_says_what_people_preferred_and_on_how_many_rankings_that_rests(alice, cast, policy):
    base = policy.serving
    PolicyCheckpoint.objects.update(status="retired")
    PolicyCheckpoint.objects.create(policy=policy, number=1, parent=base, status="serving")
    pool = make_pool(policy, "Pairs", k=2, overlap=2)
    comparisons = [make_comparison(make_prompt(pool, f"prompt {n}"), ["new", "old"]) for n in range(LEAST_PROMPTS)]
    for comparison in comparisons:
        comparison.completions.filter(text="old").update(checkpoint=base)
    for n, comparison in enumerate(comparisons[:-1]):
        make_ranking(comparison, cast["bob"], [2, 1] if n < 5 else [1, 2])
    assert changes_by_policy(cast["alice"])[0]["people"] is None  # of 19 prompts
    assert "without knowing which was whose" not in alice.get("/work/changes/").text
    for name in ("alice", "bob"):
        make_ranking(comparisons[-1], cast[name], [1, 2])
    people = changes_by_policy(cast["alice"])[0]["people"]
    assert (people["percent"], people["rankings"], people["prompts"]) == (75, 20, 20)  # without her own
    assert changes_by_policy(cast["bob"])[0]["people"] is None  # all but one are his
    assert 50 < people["low_percent"] < 75 < people["high_percent"]
    page = alice.get("/work/changes/").text
    assert f"How often other people preferred its text to that of {base.name}" in page
    assert "20 rankings on 20 prompts." in page


def test_it_says_so_while_the_base_still_serves(alice, shared):
    assert "as it came" in alice.get("/work/changes/").text


@pytest.mark.parametrize(("retrain_after", "gathered"), [(3, 2), (2, None), (0, None)])
def test_it_says_how_many_rankings_the_next_training_still_waits_for(alice, cast, shared, retrain_after, gathered):
    """Everybody's; nothing is said where it is due, or begins by hand."""
    Policy.objects.update(retrain_after=retrain_after)
    for name in ("alice", "bob"):
        make_ranking(shared[0], cast[name], [1, 2, 3])
    assert changes_by_policy(cast["alice"])[0]["gathered"] == gathered
    said = "The next training begins at 3 new rankings; 2 are there." in alice.get("/work/changes/").text
    assert said == (gathered is not None)


def usual_keys() -> dict[str, str]:
    return {action: key for action, (key, _label) in ACTIONS.items()}


def test_it_keeps_keys_that_differ_from_the_usual(alice, cast):
    alice.post("/rank/keys/", usual_keys() | {"skip": "z", "undo": ""})
    cast["alice"].refresh_from_db()
    assert cast["alice"].keys == {"skip": "z"}
    alice.post("/rank/keys/", usual_keys() | {"skip": "z", "reset": "1"})
    cast["alice"].refresh_from_db()
    assert cast["alice"].keys == {}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"skip": "u"}, "The key “u” would do two things."),
        ({"skip": "U"}, "The key “u” would do two things."),
        ({"focus_1": "b"}, "The key “b” would do two things."),
        ({"skip": "not a key"}, "“not a key” is not the name of a key."),
        ({"focus_1": "1"}, "The key “1” would name both a completion and an action; only a letter can."),
        ({"focus_1": "?"}, "The key “?” would name both a completion and an action; only a letter can."),
        ({"skip": "F2", "focus_9": "F2"}, "The key “F2” would name both a completion and an action;"),
    ],
)
def test_it_refuses_keys_that_are_none_or_cannot_be_reached(alice, cast, wrong, sentence):
    response = alice.post("/rank/keys/", usual_keys() | wrong)
    assert response.status_code == 422
    assert sentence in response.text
    cast["alice"].refresh_from_db()
    assert cast["alice"].keys == {}
