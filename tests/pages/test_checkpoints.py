"""Checkpoints: lineage, what people preferred, roll back."""

import pytest
from django.urls import reverse

from annotate.human_wins import human_win_rate, share_won, wilson
from annotate.models import AuditEvent, Comparison, Completion, PolicyCheckpoint
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_comparison, make_prompt, make_ranking
from trainer.models import TrainingRun
from trainer.views.checkpoints import lineage


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    monkeypatch.setattr("trainer.tasks.fill_buffers.delay", lambda: None)


@pytest.fixture
def base(policy):
    return policy.serving


@pytest.fixture
def trained(policy, base):
    return PolicyCheckpoint.objects.create(policy=policy, number=1, parent=base)


def compared(pool, text, authors, **fields):
    """A comparison with one completion by each of `authors`."""
    prompt = pool.prompts.filter(messages__0__content=text).first() or make_prompt(pool, text)
    comparison = Comparison.objects.create(pool=pool, prompt=prompt, overlap=9, **fields)
    for author in authors:
        Completion.objects.create(comparison=comparison, checkpoint=author, text=f"by {author}")
    return comparison


def test_it_lists_each_line_below_its_parent(policy, base, trained):
    left = PolicyCheckpoint.objects.create(policy=policy, number=2, parent=trained)
    right = PolicyCheckpoint.objects.create(policy=policy, number=3, parent=trained)
    below_left = PolicyCheckpoint.objects.create(policy=policy, number=4, parent=left)
    tree = lineage([base, trained, left, right, below_left])
    assert tree == [(0, base), (0, trained), (1, left), (1, below_left), (1, right)]


def test_it_shows_what_stands_behind_a_checkpoint(ravi, cast, policy, pool, trained):
    make_ranking(make_comparison(make_prompt(pool, "One"), ["a", "b"]), cast["alice"], [1, 2])
    run = TrainingRun.objects.create(
        policy=policy, status="published", snapshot=freeze_preferences(policy=policy), candidate=trained
    )
    text = ravi.get(reverse("checkpoint", args=[trained.pk])).text
    assert reverse("run", args=[run.pk]) in text
    assert "1 ranking, its ancestors’ included." in text
    assert cast["alice"].pseudonym in text
    assert "alice@example.org" not in text
    assert "Letters, version 1" in text


def test_it_shows_samples_beside_the_parents_and_trusts_none_of_them(ravi, trained):
    trained.metrics = {
        "evaluation": {
            "samples": [
                {
                    "prompt_id": "7",
                    "prompt": [{"role": "user", "content": "Say *hello*"}],
                    "candidate": "Hello! <img src=x onerror=alert(1)>",
                    "parent": "Goodbye.",
                    "scores": [1.25, -0.5],
                    "terms": [[[0, 5, 2.0], [5, 40, 0.5]], [[0, 8, -1.0]], None],
                },
                {"prompt": "A prompt as text", "candidate": "A", "parent": "B"},
            ]
        }
    }
    trained.save()
    text = ravi.get(reverse("checkpoint", args=[trained.pk])).text
    assert "<em>hello</em>" in text
    assert "Goodbye." in text
    assert "score 1.25" in text
    assert "A prompt as text" in text
    assert "<img" not in text
    assert '<span class="term up-3" title="2.00">Hello</span>' in text
    assert '<span class="term down-2" title="-1.00">Goodbye.</span>' in text
    assert text.count("What the scores are made of") == 1, "the second sample has no terms"


@pytest.mark.parametrize(
    ("ranks", "share"),
    [
        ([1, 2, 3], 1.0),  # the candidate's one completion is above both of the other's
        ([2, 1, 3], 0.5),
        ([1, 1, 2], 0.75),  # a tie counts half
        ([1, 1, 1], 0.5),  # all bad
        ([3, 1, 2], 0.0),
    ],
)
def test_it_counts_pairs_won_within_a_ranking(ranks, share):
    authors = [("11", 1), ("12", 0), ("13", 0)]
    assert share_won(dict(zip(("11", "12", "13"), ranks, strict=True)), authors, 1, 0) == share


def test_it_measures_what_people_prefer_once_a_prompt(cast, pool, base, trained):
    one = compared(pool, "One", [trained, base, base])
    make_ranking(one, cast["alice"], [1, 2, 3])  # 1
    make_ranking(one, cast["bob"], [2, 1, 3])  # ½, so prompt One: ¾
    make_ranking(compared(pool, "Two", [trained, base]), cast["alice"], [2, 1])  # 0
    make_ranking(compared(pool, "Three", [base, base]), cast["alice"], [2, 1])  # not of both
    make_ranking(compared(pool, "Four", [trained, base], kind="gold"), cast["alice"], [1, 2])  # chosen, not fresh
    win = human_win_rate(trained, base)
    assert (win.value, win.prompts, win.rankings) == (pytest.approx(0.375), 2, 3)
    assert human_win_rate(base, trained).value == pytest.approx(1 - 0.375)


def test_it_leaves_out_who_withdrew(cast, pool, base, trained):
    make_ranking(compared(pool, "One", [trained, base]), cast["alice"], [1, 2])
    type(cast["alice"]).objects.update(withdrawn_at="2026-01-01T00:00Z")
    assert human_win_rate(trained, base) is None


def test_it_gives_wilsons_interval_for_wins_and_losses():
    # The sample variance of ten zeros and ones is 10/9 of p(1 - p): they weigh as 9 tosses.
    value, low, high = wilson([1.0] * 8 + [0.0] * 2)
    assert value == 0.8
    n, z = 9, 1.959964
    centre = (0.8 + z * z / 18) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (0.16 / n + z * z / (4 * n * n)) ** 0.5
    assert (low, high) == (pytest.approx(centre - half), pytest.approx(centre + half))


def test_it_stays_doubtful_where_nobody_lost_yet():
    value, low, high = wilson([1.0, 1.0, 1.0])
    assert (value, high) == (1.0, pytest.approx(1.0))
    assert low == pytest.approx(3 / (3 + 1.959964**2))  # Wilson's lower bound at p = 1 is n / (n + z²)


def test_it_narrows_where_prompts_agree():
    _value, low, high = wilson([0.6, 0.5, 0.7, 0.6])
    _value, lowest, highest = wilson([1.0, 0.0, 1.0, 0.4])
    assert high - low < highest - lowest


def test_it_says_in_words_what_people_preferred(ravi, cast, pool, base, trained):
    address = reverse("checkpoint", args=[trained.pk])
    assert "Nobody has ranked the two side by side yet." in ravi.get(address).text
    for number in range(8):
        make_ranking(compared(pool, f"Prompt {number}", [trained, base]), cast["alice"], [1, 2])
    assert "People prefer this one." in ravi.get(address).text


def test_it_rolls_back_with_one_click(maria, cast, policy, base, trained):
    PolicyCheckpoint.objects.filter(pk=base.pk).update(status="retired")
    PolicyCheckpoint.objects.filter(pk=trained.pk).update(status="serving")
    response = maria.post(reverse("checkpoint_roll_back", args=[base.pk]), follow=True)
    assert "tiny-0 serves now" in response.text
    assert policy.serving == base
    trained.refresh_from_db()
    assert trained.status == "retired"
    assert AuditEvent.objects.get(action="roll-back.checkpoint").actor == cast["maria"]


def test_it_says_that_it_serves_already(maria, base):
    response = maria.post(reverse("checkpoint_roll_back", args=[base.pk]), follow=True)
    assert "This checkpoint serves already." in response.text
