"""Feedback on a training answer: the right order beside the given one."""

from string import ascii_uppercase
from typing import Any

from annotate.models import Assignment, PoolMember
from annotate.rendering import prose
from annotate.services.rankings import is_right


def training_feedback(assignment: Assignment) -> dict[str, Any]:
    """What `rank_feedback.html` shows; both orders as letters, best first, ties together: [["B"], ["A", "C"]]."""
    comparison, ranking = assignment.comparison, assignment.rankings.get(is_current=True)
    pool = comparison.pool
    member = PoolMember.objects.filter(pool=pool, user=assignment.annotator_id).first()
    return {
        "is_right": is_right(ranking),
        "all_bad": ranking.all_bad,
        "given": levels(ranking.ranks, assignment.order),
        "right": levels(comparison.gold_ranks or {}, assignment.order),
        "explanation": prose(comparison.gold_explanation) if comparison.gold_explanation else "",
        "pool": pool,
        "seen": member.training_seen if member else 0,
        "right_count": member.training_right if member else 0,
        "has_seen_enough": bool(member and member.training_seen >= pool.training_count),
        "is_qualified": bool(member and member.qualified_at),
    }


def levels(ranks: dict[str, int], order: list[int]) -> list[list[str]]:
    letters = dict(zip(map(str, order), ascii_uppercase, strict=False))
    by_rank: dict[int, list[str]] = {}
    for key, letter in letters.items():
        if key in ranks:
            by_rank.setdefault(ranks[key], []).append(letter)
    return [by_rank[rank] for rank in sorted(by_rank)]
