"""The card that goes with a snapshot's data: what it is, how it was made, what to mind. Markdown with a YAML head.

In the shape that data set hubs read from README.md (Gebru et al., "Datasheets for Datasets", 1803.09010, asks the
questions). In English, whatever the language of the pages: it leaves with the data. Reads only; the numbers are of what
an export of the snapshot holds now, so whoever withdrew since is not in them.
"""

from collections import Counter
from collections.abc import Iterable

from django.db.models import Count, Max, Min, Q, QuerySet

from annotate.models import Completion, GuidelineVersion, PreferenceSnapshot, Ranking
from annotate.preferences import PreferenceFilters

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

CARD = """\
---
pretty_name: {title}
language:
{languages_list}
size_categories:
- {size_category}
tags:
- preference
- rlhf
- human-feedback
---

# {title}

People ranked completions that a language model wrote for the same prompt. Frozen on {day}{by}.{note}

| what | how much |
|---|---|
| rankings | {rankings} |
| comparisons | {comparisons} |
| prompts | {prompts}, of them {held_out_prompts} held out |
| annotators | {annotators}, under pseudonyms |
| answered | {first:%Y-%m-%d} to {last:%Y-%m-%d} |
| languages | {languages} |
| pools | {pools} |
| completions by | {checkpoints} |
| marked “all bad” | {all_bad} |
| guidelines | {guidelines} |
| SHA-256 of `rankings.jsonl` | `{content_hash}` |

## How it was made

Annotators saw the completions of a prompt side by side, in an order shuffled for each of them, without the model's name
and without any score. They gave each a rank; ties were possible where the pool allowed them. A correction replaced the
answer it corrected. Base model: {base_model}.

## How to read it

`rankings` has every ranking whole; `trl`, `trl-conversational`, `hh` and `moss` have its pairs, best before worse.

- `split` follows the prompt: a held-out prompt is in no training pair, for ever.
- Pairs of one ranking share a `group_id` and are not independent: keep them in one batch and on one side of a split.
- `margin` is how many ranks lie between the two; with the first of a ranking, at least the strength the annotator gave.
- Prompts and completions of a language model can be wrong, rude or unsafe; nobody has edited them.

## Who is in it

Annotators appear under pseudonyms that stay the same between exports. Whoever withdrew is in no later export; ask for a
new one rather than keep an old file.
"""


def dataset_card(snapshot: PreferenceSnapshot) -> str:
    rankings = PreferenceFilters(snapshot=snapshot.pk).apply(Ranking.objects.all())
    return CARD.format(
        title=f"{snapshot.policy.name}: preferences, snapshot {snapshot.pk}", **facts(snapshot, rankings)
    )


def facts(snapshot: PreferenceSnapshot, rankings: QuerySet[Ranking]) -> dict:
    prompt = "assignment__comparison__prompt"
    counts = rankings.aggregate(
        rankings=Count("pk"),
        comparisons=Count("assignment__comparison", distinct=True),
        prompts=Count(prompt, distinct=True),
        held_out_prompts=Count(prompt, distinct=True, filter=Q(**{f"{prompt}__is_held_out": True})),
        annotators=Count("annotator", distinct=True),
        all_bad=Count("pk", filter=Q(all_bad=True)),
        first=Min("created_at"),
        last=Max("created_at"),
    )
    languages = Counter(dict(counted(rankings, f"{prompt}__language")))
    guidelines = GuidelineVersion.objects.filter(assignment__rankings__in=rankings).select_related("pool").distinct()
    return counts | {
        "first": counts["first"] or snapshot.created_at,
        "last": counts["last"] or snapshot.created_at,
        "day": f"{snapshot.created_at:%Y-%m-%d}",
        "by": f" by {snapshot.created_by.pseudonym}" if snapshot.created_by else "",
        "note": f" {one_line(snapshot.note)}" if snapshot.note else "",
        "languages": listed(languages.most_common()),
        "languages_list": "\n".join(f"- {language.split('-')[0]}" for language in languages) or "- und",
        "pools": listed(counted(rankings, "pool__name")),
        "checkpoints": listed(authors(rankings)),
        "guidelines": ", ".join(f"{one_line(each.pool.name)} version {each.version}" for each in guidelines) or "none",
        "size_category": next((name for size, name in SIZES if counts["rankings"] < size), "n>1M"),
        "content_hash": snapshot.content_hash,
        "base_model": one_line(snapshot.policy.base_model.rsplit("/", 1)[-1]),
    }


def counted(rankings: QuerySet[Ranking], name: str) -> Iterable[tuple[str, int]]:
    return rankings.order_by().values_list(name).annotate(n=Count("pk")).order_by("-n", name)


def authors(rankings: QuerySet[Ranking]) -> list[tuple[str, int]]:
    """Who wrote the completions that were ranked: checkpoint and how many."""
    completions = Completion.objects.filter(comparison__in=rankings.values("assignment__comparison"))
    found = completions.values_list("checkpoint__policy__name", "checkpoint__number").annotate(n=Count("pk"))
    return [
        (f"{policy}-{number}" if policy else "a person", n)
        for policy, number, n in found.order_by("checkpoint__policy__name", "checkpoint__number")
    ]


def listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{one_line(name)} ({n})" for name, n in counts) or "none"


def one_line(text: str) -> str:
    """A name that people chose, so that it breaks no table: no line ends, no bars."""
    return " ".join(text.split()).replace("|", "\\|")
