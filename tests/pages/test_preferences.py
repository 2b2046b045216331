"""Preference data on the page: choose, look, download, freeze, and the card."""

import json

import pytest
from django.urls import reverse

from annotate.dataset_card import dataset_card
from annotate.models import PreferenceSnapshot
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_comparison, make_prompt, make_ranking


@pytest.fixture
def page():
    return reverse("preferences")


@pytest.fixture
def ranked(cast, pool):
    """Two prompts, ranked by Alice: three texts without ties, two texts that tie."""
    sea = make_prompt(pool, "Write about the sea", tags=["poem"])
    hill = make_prompt(pool, "Write about a hill", tags=["prose"])
    return [
        make_ranking(make_comparison(sea, ["good", "bad", "middling"]), cast["alice"], [1, 3, 2]),
        make_ranking(make_comparison(hill, ["a", "b"]), cast["alice"], [1, 1], all_bad=True),
    ]


def test_it_shows_the_first_rows_and_counts(ravi, page, ranked):
    found = ravi.get(page).context["found"]
    assert (found["rankings"], found["prompts"], found["annotators"]) == (2, 2, 1)
    assert {(row["chosen"], row["rejected"]) for row in found["rows"]} == {
        (" good", " middling"),
        (" good", " bad"),
        (" middling", " bad"),
    }


def test_it_shows_at_most_five_rows(ravi, cast, page, pool):
    make_ranking(make_comparison(make_prompt(pool, "Six pairs"), list("abcd")), cast["alice"], [1, 2, 3, 4])
    assert len(ravi.get(page).context["found"]["rows"]) == 5


def test_it_downloads_what_it_shows(ravi, page, ranked):
    chosen = {"format": "trl", "file": "jsonl", "tag": "poem"}
    response = ravi.get(page, chosen)
    shown = response.context["found"]["rows"]
    file = ravi.get(response.context["download"])
    assert file.headers["Content-Type"] == "application/jsonl"
    assert [json.loads(line) for line in b"".join(file.streaming_content).splitlines()] == shown


def test_it_shows_the_same_choice_as_an_api_call(ravi, page, ranked):
    text = ravi.get(page, {"format": "rankings", "file": "parquet", "split": "train"}).text
    assert "http://testserver/api/v1/preferences/?format=rankings&amp;file=parquet&amp;split=train" in text


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"format": "csv"}, "format"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-02-01", "until": "2026-01-01"}, "until"),
        ({"pool": "999999"}, "pool"),
        ({"min_strength": "9"}, "min_strength"),
        ({"language": "<b>"}, "language"),
    ],
)
def test_it_says_at_the_field_what_cannot_be(ravi, page, query, field):
    response = ravi.get(page, query)
    assert list(response.context["form"].errors) == [field]
    assert response.context["found"] is None
    assert ravi.get(reverse("preferences_download"), query).status_code == 422


def test_it_says_what_to_do_where_nothing_fits(ravi, page, ranked):
    assert "No ranking fits." in ravi.get(page, {"tag": "song"}).text
    assert "holds no pair" in ravi.get(page, {"tag": "prose"}).text


def test_it_swaps_what_was_found_alone_for_htmx(ravi, page, ranked):
    response = ravi.get(page, {"format": "hh"}, headers={"HX-Request": "true"})
    assert "Human: Write about the sea" in response.text
    assert "<html" not in response.text


def test_it_freezes_a_snapshot_and_shows_its_card(ravi, cast, policy, ranked):
    response = ravi.post(reverse("snapshots"), {"policy": policy.pk, "note": "For the paper"}, follow=True)
    snapshot = PreferenceSnapshot.objects.get()
    assert (snapshot.size, snapshot.note, snapshot.created_by) == (2, "For the paper", cast["ravi"])
    assert snapshot.content_hash in response.text


def test_it_says_that_there_is_nothing_to_freeze(ravi, policy):
    response = ravi.post(reverse("snapshots"), {"policy": policy.pk})
    assert "No ranking fits these filters." in response.text


def test_it_downloads_the_card_as_a_readme(ravi, policy, ranked):
    snapshot = freeze_preferences(policy=policy)
    response = ravi.get(reverse("snapshot_card", args=[snapshot.pk]))
    assert response.headers["Content-Disposition"] == 'attachment; filename="README.md"'
    assert response.text.startswith("---\npretty_name: tiny: preferences, snapshot")


def test_it_writes_the_card_from_the_rankings_that_are_left(cast, policy, pool, ranked):
    pool.name = "Letters | and\nmore"
    pool.save()
    snapshot = freeze_preferences(policy=policy)
    card = dataset_card(snapshot)
    assert "| rankings | 2 |" in card
    assert "| pools | Letters \\| and more (2) |" in card
    assert "| completions by | tiny-0 (5) |" in card
    assert "| marked “all bad” | 1 |" in card
    assert "alice@example.org" not in card
    type(cast["alice"]).objects.update(withdrawn_at="2026-01-01T00:00Z")
    assert "| rankings | 0 |" in dataset_card(snapshot)
