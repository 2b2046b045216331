"""Gold and training comparisons, made from answered ones."""

import pytest
from django.urls import reverse

from annotate.models import AuditEvent, Comparison
from annotate.services.assignments import lease_next_comparison
from annotate.services.gold import NotGold, make_gold
from tests.worlds import make_comparison, make_prompt, make_ranking


@pytest.fixture
def answered(cast, pool):
    comparison = make_comparison(make_prompt(pool, "Write about the sea"), ["good", "bad", "middling"])
    make_ranking(comparison, cast["alice"], [1, 3, 2])
    return comparison


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
