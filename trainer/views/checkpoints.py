"""Checkpoints: the lineage of each policy, and what stands behind one of them."""

from collections import defaultdict

from django.db.models import Prefetch
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.human_wins import human_win_rate
from annotate.lineage import annotators_behind, guideline_versions_behind, rankings_behind, with_ancestors
from annotate.models import Policy, PolicyCheckpoint
from annotate.roles import MAY_MANAGE, MAY_RESEARCH
from annotate.views.access import needs
from annotate.views.outcome import told
from trainer.attribution import attributed
from trainer.services import roll_back

DEEPEST = 4  # steps of indentation that the page has room for


@needs(MAY_RESEARCH)
def checkpoints(request):
    """Every policy's checkpoints as a tree: what was trained from what."""
    found = PolicyCheckpoint.objects.select_related("parent", "policy")
    policies = list(Policy.objects.prefetch_related(Prefetch("checkpoints", queryset=found)))
    for policy in policies:
        policy.tree = lineage(list(policy.checkpoints.all()))
    return render(request, "checkpoints.html", {"policies": policies})


def lineage(found: list[PolicyCheckpoint]) -> list[tuple[int, PolicyCheckpoint]]:
    """Depth and checkpoint, a parent before its children, indented where the tree branches.

    A line without branches stays at one depth: only a sibling of a child moves its branch to the right.
    """
    children = defaultdict(list)
    for checkpoint in found:
        children[checkpoint.parent_id].append(checkpoint)
    tree, waiting = [], [(0, root) for root in reversed(children[None])]
    while waiting:
        depth, checkpoint = waiting.pop()
        tree.append((depth, checkpoint))
        below = children[checkpoint.pk]
        waiting += [(min(depth + (len(below) > 1), DEEPEST), child) for child in reversed(below)]
    return tree


@needs(MAY_RESEARCH)
def checkpoint(request, checkpoint_id: int):
    shown = get_object_or_404(
        PolicyCheckpoint.objects.select_related("policy", "parent__policy", "run"), pk=checkpoint_id
    )
    measured = shown.metrics.get("evaluation", {})
    line = with_ancestors(shown)
    return render(
        request,
        "checkpoint.html",
        {
            "checkpoint": shown,
            "run": getattr(shown, "run", None),
            "evaluation": measured,
            "report": shown.metrics.get("reward", {}),
            "samples": [with_turns(sample) for sample in measured.get("samples", [])],
            "wins": [(other, human_win_rate(shown, other)) for other in rivals(line)],
            "ranking_count": rankings_behind(shown).count(),
            "annotators": annotators_behind(shown).order_by("pseudonym"),
            "guidelines": guideline_versions_behind(shown).select_related("pool").order_by("pool__name", "version"),
            "children": shown.children.select_related("policy"),
        },
    )


def with_turns(sample: dict) -> dict:
    """The sample with its prompt as messages, text or conversation, and what each part adds to the scores."""
    prompt = sample.get("prompt", "")
    turns = prompt if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]
    return sample | {"turns": turns, "attributed": attributed(sample)}


def rivals(line: list[PolicyCheckpoint]) -> list[PolicyCheckpoint]:
    """Its parent and the base, each once."""
    return list(dict.fromkeys([*line[1:2], *line[1:][-1:]]))


@needs(MAY_MANAGE)
@require_POST
def checkpoint_roll_back(request, checkpoint_id: int):
    chosen = get_object_or_404(PolicyCheckpoint.objects.select_related("policy"), pk=checkpoint_id)
    with told(request, _("%(name)s serves now and writes the next comparisons.") % {"name": chosen.name}):
        roll_back(checkpoint=chosen, by=request.user)
    return redirect("checkpoint", checkpoint_id)
