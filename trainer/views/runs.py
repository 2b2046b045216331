"""Training runs: the list, one run as it goes, its charts; start, cancel, take up again."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from django_htmx.http import HttpResponseClientRefresh

from annotate.errors import Refused
from annotate.models import Policy
from annotate.roles import MAY_MANAGE, MAY_RESEARCH
from annotate.selectors import new_rankings
from annotate.views.access import needs
from annotate.views.outcome import told
from trainer.charts import BY_NAME, CSS_SOURCE, draw, drawables
from trainer.models import TrainingRun
from trainer.report import evaluation, reward_plots, reward_report
from trainer.services import cancel_run, resume_run, start_run

RUNS_PER_PAGE = 30
STAGES = (
    TrainingRun.Status.COLLECTING,
    TrainingRun.Status.REWARD,
    TrainingRun.Status.PPO,
    TrainingRun.Status.EVALUATING,
    TrainingRun.Status.GATED,
)
PLOTS = {
    "reliability": _(
        "Share preferred, by the chance that was predicted: the nearer to the diagonal, the surer one may be."
    ),
    "layers": _("Accuracy in cross-validation, by layer of the base model and pooling."),
    "margins": _("Score of the preferred completion minus the other’s, over held-out pairs: right of zero is right."),
    "lengths": _("Score by length in tokens: a slope means that length is rewarded."),
}
STAGE_OF_PROGRAM = {
    "reward": TrainingRun.Status.REWARD,
    "ppo": TrainingRun.Status.PPO,
    "evaluate": TrainingRun.Status.EVALUATING,
}


@needs(MAY_RESEARCH)
def runs(request):
    found = TrainingRun.objects.select_related("policy", "candidate__policy", "snapshot", "started_by")
    policies = list(Policy.objects.all())
    busy = {run.policy_id: run for run in found.filter(status__in=TrainingRun.ACTIVE)}
    for policy in policies:
        policy.active_run = busy.get(policy.pk)
        policy.new_count = new_rankings(policy).count()
    page = Paginator(found, RUNS_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "runs.html", {"page": page, "policies": policies})


@needs(MAY_RESEARCH)
def run(request, run_id: int):
    """One run. While it is at work the page asks for news every two seconds, and gets the new numbers alone."""
    shown = get_object_or_404(
        TrainingRun.objects.select_related("policy", "parent__policy", "candidate__policy", "snapshot", "started_by"),
        pk=run_id,
    )
    if request.htmx:
        return news(request, shown)
    context = progress(shown) | {"report": reward_report(shown), "evaluation": evaluation(shown)}
    context["plots"] = [(name, PLOTS.get(name, name)) for name in reward_plots(shown)]
    return render(request, "run.html", context | {"charts": drawables(shown)})


def news(request, shown: TrainingRun) -> HttpResponse:
    """What changed since the page asked last. A run that has ended, or has another chart to show, is shown anew."""
    context = progress(shown)
    if request.GET.get("seen") != str(context["newest_metric"]):
        context["charts"] = drawables(shown)
        if [drawable.chart.name for drawable in context["charts"]] != request.GET.getlist("chart"):
            return HttpResponseClientRefresh()
    if not shown.is_active:
        return HttpResponseClientRefresh()
    return render(request, "run.html#news", context)


def progress(shown: TrainingRun) -> dict:
    newest = shown.metrics.order_by("-id").values_list("id", flat=True).first() or 0
    # Between two stages the run still has the steps of the one that ended.
    is_stepping = bool(shown.steps) and STAGE_OF_PROGRAM.get(shown.stage) == shown.status
    return {"run": shown, "stages": stages(shown), "newest_metric": newest, "is_stepping": is_stepping}


def stages(shown: TrainingRun) -> list[tuple[str, str]]:
    """Each stage's label with done, now, failed or an empty string for what is still to come."""
    if shown.status in (TrainingRun.Status.PUBLISHED, TrainingRun.Status.REJECTED):
        return [(stage.label, "done") for stage in STAGES]
    if shown.status == TrainingRun.Status.QUEUED:
        return [(stage.label, "") for stage in STAGES]
    has_ended = not shown.is_active
    at = STAGE_OF_PROGRAM.get(shown.stage, TrainingRun.Status.COLLECTING) if has_ended else shown.status
    place = STAGES.index(at)
    marks = ["done"] * place + ["failed" if has_ended else "now"] + [""] * (len(STAGES) - place - 1)
    return [(stage.label, mark) for stage, mark in zip(STAGES, marks, strict=True)]


@needs(MAY_RESEARCH)
def run_chart(request, run_id: int, name: str):
    """One chart as an SVG image. Its own style is allowed by its hash, and nothing else."""
    if name not in BY_NAME:
        raise Http404
    response = HttpResponse(draw(BY_NAME[name], get_object_or_404(TrainingRun, pk=run_id)), "image/svg+xml")
    response._csp_replace = {"style-src": [CSS_SOURCE]}
    response["Cache-Control"] = "private, max-age=60"
    return response


@needs(MAY_RESEARCH)
def run_plot(request, run_id: int, name: str):
    """One plot of the reward model's report, as the trainer drew it.

    Its style is inline, which a page of its own would refuse and an image does not: opened by itself, it is a download.
    """
    found = reward_plots(get_object_or_404(TrainingRun.objects.select_related("policy", "candidate"), pk=run_id))
    if name not in found:
        raise Http404
    return FileResponse(
        found[name].open("rb"), as_attachment=True, filename=f"run-{run_id}-{name}.svg", content_type="image/svg+xml"
    )


@needs(MAY_MANAGE)
@require_POST
def run_start(request, policy_id: int):
    policy = get_object_or_404(Policy, pk=policy_id)
    try:
        started = start_run(policy=policy, started_by=request.user)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("runs")
    return redirect("run", started.pk)


@needs(MAY_MANAGE)
@require_POST
def run_cancel(request, run_id: int):
    with told(request, _("The run will end after its next step. Its folder is kept.")):
        cancel_run(run=get_object_or_404(TrainingRun, pk=run_id), by=request.user)
    return redirect("run", run_id)


@needs(MAY_MANAGE)
@require_POST
def run_resume(request, run_id: int):
    with told(request, _("The run goes on from where it was.")):
        resume_run(run=get_object_or_404(TrainingRun, pk=run_id), by=request.user)
    return redirect("run", run_id)
