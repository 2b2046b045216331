"""Comparisons whose right order is known: gold ones measure annotators, training ones teach them."""

from django.core.paginator import Paginator
from django.db.models import Prefetch
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from annotate.forms import GoldForm
from annotate.models import Comparison, Completion, PromptPool, Ranking
from annotate.roles import MAY_MANAGE
from annotate.services.gold import make_gold, withdraw_gold
from annotate.views.access import needs
from annotate.views.outcome import told

CHOICES_PER_PAGE = 20


@needs(MAY_MANAGE)
def pool_gold(request, pool_id: int):
    """What is gold already, and answered comparisons that could become it."""
    pool = get_object_or_404(PromptPool, pk=pool_id)
    comparisons = pool.comparisons.select_related("prompt")
    gold = comparisons.exclude(kind=Comparison.Kind.FRESH).filter(is_withdrawn=False).order_by("kind", "id")
    answered = comparisons.filter(kind=Comparison.Kind.FRESH, answered__gt=0).order_by("-id")
    page = Paginator(answered, CHOICES_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "pool_gold.html", {"pool": pool, "gold": gold, "page": page})


@needs(MAY_MANAGE)
def pool_gold_new(request, pool_id: int, comparison_id: int):
    """Mark the right order of an answered comparison. Its newest answer is suggested, not taken."""
    texts = Prefetch("completions", queryset=Completion.objects.defer("token_ids"))
    answered = Comparison.objects.filter(pool=pool_id, kind=Comparison.Kind.FRESH, answered__gt=0)
    comparison = get_object_or_404(answered.select_related("pool", "prompt").prefetch_related(texts), pk=comparison_id)
    answers = Ranking.objects.current().filter(assignment__comparison=comparison).order_by("-id")
    suggested = answers.values_list("ranks", flat=True).first() or {}
    form = GoldForm(request.POST or None, completions=comparison.completions.all(), suggested=suggested)
    if request.method == "POST" and form.is_valid():
        with told(request, _("Done. Annotators will meet this comparison from now on.")):
            make_gold(
                comparison=comparison,
                kind=form.cleaned_data["kind"],
                ranks=form.ranks(),
                explanation=form.cleaned_data["explanation"],
                by=request.user,
            )
        return redirect("pool_gold", pool_id)
    return render(request, "pool_gold_new.html", {"pool": comparison.pool, "comparison": comparison, "form": form})


@needs(MAY_MANAGE)
@require_POST
def pool_gold_withdraw(request, pool_id: int, comparison_id: int):
    gold = Comparison.objects.exclude(kind=Comparison.Kind.FRESH).select_related("pool")
    with told(request, _("Nobody meets this comparison any more.")):
        withdraw_gold(comparison=get_object_or_404(gold, pk=comparison_id, pool=pool_id), by=request.user)
    return redirect("pool_gold", pool_id)
