"""Why somebody is lent nothing, in sentences for them."""

from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.utils.translation import gettext as _

from annotate.languages import foreign_languages
from annotate.models import Assignment, PoolMember, Prompt, PromptPool, User
from annotate.selectors import workable_pools
from annotate.stored_sentences import in_readers_language

MOST_POOLS = 5  # of those that are closed


def nothing_page(annotator: User, pool_id: int | None) -> dict[str, Any]:
    """What `rank.html#nothing` shows where a lease of one pool, or of all, found nothing."""
    open_pools = workable_pools(annotator)
    return {
        "assignment": None,
        "why_nothing": why_nothing(annotator, pool_id),
        "is_more_in_others": pool_id is not None and open_pools.exclude(pk=pool_id).exists(),
        "foreign_languages": foreign_languages(open_pools),
    }


def why_nothing(annotator: User, pool_id: int | None = None) -> list[str]:
    """One sentence at least. Pools that this person is not let into are not spoken of."""
    pools = list(pools_as_they_stand(annotator, pool_id))
    if pool_id is not None and not pools:
        return [_("This pool is not open to you.")]
    sentences = [training_not_passed(pool) for pool in pools if is_stuck(pool)]
    if any(is_written_for(pool) for pool in pools):
        return [*sentences, _("The next comparisons are being written. They appear here by themselves.")]
    if pool_id is None and not sentences and not any(map(has_trouble, pools)):
        sentences = [_("No pool is open to you. As soon as one is, its comparisons appear here by themselves.")]
    return sentences + [closed(pool) for pool in pools if not is_stuck(pool)][:MOST_POOLS]


def pools_as_they_stand(annotator: User, pool_id: int | None) -> QuerySet[PromptPool]:
    """Pools, open or not, that this person is let into, each with how far they are in its training."""
    member = PoolMember.objects.filter(pool=OuterRef("pk"), user=annotator)
    leases = Assignment.objects.filter(annotator=annotator, finished_at=None, status=Assignment.Status.LEASED)
    pools = PromptPool.objects.filter(Q(members_only=False) | Exists(member)).annotate(
        qualified_at=Subquery(member.values("qualified_at")),
        training_right=Subquery(member.values("training_right")),
        training_seen=Subquery(member.values("training_seen")),
        has_lease=Exists(leases.filter(comparison__pool=OuterRef("pk"))),
        has_prompts=Exists(Prompt.objects.filter(pool=OuterRef("pk"), retired_at=None)),
    )
    return pools.filter(pk=pool_id) if pool_id is not None else pools


def is_stuck(pool: PromptPool) -> bool:
    """Whether nothing of the training is left for who is not through it; what is open in another tab still is."""
    is_trained = not pool.training_count or pool.qualified_at is not None
    return pool.status == PromptPool.Status.ACTIVE and not is_trained and not pool.has_lease


def has_trouble(pool: PromptPool) -> bool:
    """Whether it is open and nothing can be written for it; the reason is for its manager."""
    return pool.status == PromptPool.Status.ACTIVE and bool(pool.status_reason)


def is_written_for(pool: PromptPool) -> bool:
    is_open = pool.status == PromptPool.Status.ACTIVE and not has_trouble(pool)
    return is_open and pool.has_prompts and not is_stuck(pool)


def training_not_passed(pool: PromptPool) -> str:
    seen, right = pool.training_seen or 0, pool.training_right or 0
    if seen < pool.training_count or right >= pool.training_pass_share * seen:  # the pool asked for more then
        sentence = _(
            "You are not through the training of “%(pool)s”, and it has nothing more for you. A manager can let you "
            "through."
        )
        return sentence % {"pool": pool.name}
    sentence = _(
        "You did not pass the training of “%(pool)s”: %(right)s of %(seen)s answers were right, and it has nothing "
        "more for you. A manager can let you through."
    )
    return sentence % {"pool": pool.name, "right": right, "seen": seen}


def closed(pool: PromptPool) -> str:
    if pool.status == PromptPool.Status.CHECKING:
        sentence = _("“%(pool)s” is not open yet: it is being checked whether the model writes its language.")
    elif has_trouble(pool):
        sentence = _("For “%(pool)s” no comparisons can be written at the moment. Its manager sees why.")
    elif pool.status == PromptPool.Status.ACTIVE:
        sentence = _("“%(pool)s” has no prompts at the moment.")
    elif pool.status_reason:
        sentence = _("“%(pool)s” is paused: %(reason)s")
    else:
        sentence = _("“%(pool)s” is paused.")
    return sentence % {"pool": pool.name, "reason": in_readers_language(pool.status_reason)}
