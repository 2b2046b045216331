"""Gold and training comparisons: ones whose right order is known, made from ones that people have ranked."""

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from annotate.errors import IncompleteRanking, Refused
from annotate.models import Comparison, Completion, User
from annotate.ranking import dense_ranks, is_complete
from annotate.services.audit import record

# Everybody may be asked a gold comparison, so it never runs out of places.
PLACES = 1_000_000


class NotGold(Refused):
    code = "not_gold"
    sentence = _("A gold comparison is fresh no more: choose gold or training.")


@transaction.atomic
def make_gold(
    *, comparison: Comparison, kind: str, ranks: dict[int, int], explanation: str, by: User | None
) -> Comparison:
    """Copy a comparison as gold or training, with its right order and why it is right.

    A copy, since the answers to the original are preferences like any other and stay what they are. `ranks` is by the
    original's completion ids. Raises NotGold, IncompleteRanking.
    """
    if kind not in (Comparison.Kind.GOLD, Comparison.Kind.TRAINING):
        raise NotGold
    completions = list(comparison.completions.all())
    if not is_complete(ranks, [completion.pk for completion in completions]):
        raise IncompleteRanking
    ranks = dense_ranks(ranks)
    gold = Comparison.objects.create(
        pool_id=comparison.pool_id,
        prompt_id=comparison.prompt_id,
        kind=kind,
        gold_explanation=explanation.strip(),
        copied_from_id=comparison.copied_from_id or comparison.pk,
        overlap=PLACES,
    )
    copies = Completion.objects.bulk_create(
        Completion(
            comparison=gold,
            checkpoint_id=completion.checkpoint_id,
            text=completion.text,
            token_ids=completion.token_ids,
            sampling=completion.sampling,
            seed=completion.seed,
            finish_reason=completion.finish_reason,
            names_its_model=completion.names_its_model,
        )
        for completion in completions
    )
    gold.gold_ranks = {str(copy.pk): ranks[original.pk] for copy, original in zip(copies, completions, strict=True)}
    gold.save(update_fields=["gold_ranks"])
    record(by, "make.gold", gold, kind=kind, pool=comparison.pool.name, copied_from=comparison.pk)
    return gold


@transaction.atomic
def withdraw_gold(*, comparison: Comparison, by: User | None) -> None:
    """Offer a gold or training comparison to nobody any more; its answers stay."""
    comparison.is_withdrawn = True
    comparison.save(update_fields=["is_withdrawn"])
    record(by, "withdraw.gold", comparison, pool=comparison.pool.name)
