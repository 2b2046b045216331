"""Gold and training comparisons, made from answered ones."""

import pytest
from django.urls import reverse

from annotate.models import Assignment, AuditEvent, Comparison
from annotate.services.assignments import lease_next_comparison
from annotate.services.gold import NotGold, make_gold
from tests.worlds import make_comparison, make_prompt, make_ranking


@pytest.fixture
def answered(cast, pool):
    comparison = make_comparison(make_prompt(pool, "Write about the sea"), ["good", "bad", "middling"])
    make_ranking(comparison, cast["alice"], [1, 3, 2])
    return comparison


def copy_of(comparison, kind="gold") -> Comparison:
    ranks = {pk: rank for rank, pk in enumerate(comparison.completions.values_list("id", flat=True), start=1)}
    return make_gold(comparison=comparison, kind=kind, ranks=ranks, explanation="", by=None)


def lent_to(person) -> list[int]:
    """Every comparison that is to be had for this person, in the order they come."""
    leased = iter(lambda: lease_next_comparison(annotator=person), None)
    return [assignment.comparison_id for assignment in leased]


@pytest.fixture
def always_gold(pool, monkeypatch):
    pool.gold_share = 0.5
    pool.save()
    monkeypatch.setattr("annotate.services.assignments.random.random", lambda: 0.0)


def form(comparison, ranks, **changes):
    ids = comparison.completions.values_list("id", flat=True)
    return {f"rank_{pk}": rank for pk, rank in zip(ids, ranks, strict=True)} | {
        "kind": "gold",
        "explanation": "The first keeps to the sea.",
        **changes,
    }


def test_it_suggests_the_newest_answer(maria, pool, answered):
    shown = maria.get(reverse("pool_gold_new", args=[pool.pk, answered.pk])).context["form"]
    assert [field.value() for _completion, field in shown.with_texts()] == [1, 3, 2]


def test_it_copies_the_comparison_with_its_right_order(maria, pool, answered):
    maria.post(reverse("pool_gold_new", args=[pool.pk, answered.pk]), form(answered, [1, 3, 1]))
    gold = Comparison.objects.get(kind="gold")
    ranks_by_text = {each.text: gold.gold_ranks[str(each.pk)] for each in gold.completions.all()}
    assert ranks_by_text == {"good": 1, "bad": 2, "middling": 1}
    assert gold.gold_explanation == "The first keeps to the sea."
    answered.refresh_from_db()
    assert (answered.kind, answered.answered) == ("fresh", 1)
    assert AuditEvent.objects.filter(action="make.gold").exists()


def test_it_shows_gold_to_annotators_until_it_is_withdrawn(maria, cast, pool, answered):
    maria.post(reverse("pool_gold_new", args=[pool.pk, answered.pk]), form(answered, [1, 3, 2], kind="training"))
    pool.training_count = 1
    pool.save()
    training = Comparison.objects.get(kind="training")
    assert lease_next_comparison(annotator=cast["bob"]).comparison == training
    maria.post(reverse("pool_gold_withdraw", args=[pool.pk, training.pk]))
    assert lease_next_comparison(annotator=cast["maria"]) is None


@pytest.mark.parametrize("ranks", [[1, 1, 1], [1, 2, ""], [1, 2, 4], [0, 1, 2]])
def test_it_wants_an_order_that_somebody_can_miss(maria, pool, answered, ranks):
    response = maria.post(reverse("pool_gold_new", args=[pool.pk, answered.pk]), form(answered, ranks))
    assert response.context["form"].errors
    assert "The first keeps to the sea." in response.text
    assert not Comparison.objects.exclude(kind="fresh").exists()


def test_it_makes_no_fresh_comparison_out_of_another(answered):
    with pytest.raises(NotGold):
        make_gold(comparison=answered, kind="fresh", ranks={}, explanation="", by=None)


def test_gold_is_for_who_has_not_ranked_what_it_was_copied_from(cast, answered, always_gold):
    gold = copy_of(answered)
    assert lent_to(cast["alice"]) == []
    assert lent_to(cast["bob"]) == [gold.pk]


@pytest.mark.parametrize("status", ["leased", "answered", "skipped", "expired"])
def test_what_was_copied_is_for_who_did_not_have_the_copy(cast, answered, always_gold, status):
    gold = copy_of(answered)
    Comparison.objects.filter(pk=answered.pk).update(overlap=3)  # as a second opinion would
    assert lease_next_comparison(annotator=cast["bob"]).comparison_id == gold.pk
    Assignment.objects.filter(comparison=gold).update(status=status)
    gold.is_withdrawn = True
    gold.save()
    assert lent_to(cast["bob"]) == ([answered.pk] if status == "expired" else [])


def test_two_copies_of_one_comparison_are_for_two_people(cast, answered, always_gold):
    """A copy of a copy is one more copy of the same."""
    first = copy_of(answered)
    second = copy_of(first)
    assert lent_to(cast["bob"]) == [first.pk]
    assert Comparison.objects.filter(copied_from=answered).count() == 2
    assert lease_next_comparison(annotator=cast["ravi"]).comparison_id in (first.pk, second.pk)


def test_training_with_known_texts_comes_last_and_keeps_nobody_out(cast, pool, answered):
    pool.training_count = 2
    pool.save()
    known = copy_of(answered, "training")
    new = copy_of(make_comparison(make_prompt(pool, "Write about the hills"), ["good", "bad"]), "training")
    assert lent_to(cast["alice"]) == [new.pk, known.pk]
    assert lent_to(cast["bob"]) == [known.pk, new.pk]
