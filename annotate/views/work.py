"""My work: how much, how well, what came of it, and the own answers, to be looked up and corrected."""

from dataclasses import replace

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from annotate.answer_form import answer_from_form
from annotate.comparison_page import by_number, comparison_page
from annotate.errors import Conflict, NothingChanged, Refused
from annotate.own_work import answered_assignment, changes_by_policy, own_answers, own_numbers
from annotate.ranking import in_letters
from annotate.roles import MAY_ANNOTATE
from annotate.services.rankings import Answer, revise_ranking
from annotate.views.access import needs
from annotate.views.rank import page_context, whole_number

ANSWERS_A_PAGE = 20


@never_cache
@needs(MAY_ANNOTATE)
def work(request):
    answers = Paginator(own_answers(request.user), ANSWERS_A_PAGE).get_page(request.GET.get("page"))
    for answer in answers:
        answer.order = _("all bad") if answer.all_bad else in_letters(by_number(answer.ranks), answer.assignment.order)
    if request.htmx and not request.htmx.boosted:
        return render(request, "work.html#answers", {"answers": answers})
    return render(request, "work.html", {"answers": answers, "numbers": own_numbers(request.user)})


@never_cache
@needs(MAY_ANNOTATE)
def correction(request, assignment_id: int):
    """One's own answer on the page it was given on; sent again it becomes a new revision.

    The ranking page asks for the comparison alone, to go on with a correction after a reload.
    """
    given = answered_assignment(request.user, assignment_id)
    if given is None or (given.is_frozen and request.htmx):
        raise Http404
    if request.method == "POST":
        return take_correction(request, assignment_id, given)
    if given.is_frozen:
        messages.info(request, _("A snapshot has used this answer already; it can no longer be changed."))
        return redirect("work")
    if request.htmx:
        comparison = comparison_page(given.assignment, given=given)
        return render(request, "rank.html#comparison", comparison | {"has_script": True})
    return correction_page(request, given)


def correction_page(request, given, *, said: Answer | None = None, status: int = 200):
    """The old answer, or what a form that was refused `said`."""
    context = page_context(request.user) | comparison_page(given.assignment, given=given, said=said)
    return render(request, "correction.html", context | {"back": page_of_work(request)}, status=status)


def take_correction(request, assignment_id: int, given):
    answer = replace(answer_from_form(request.POST, given.assignment.order), spans=given.spans)  # no form marks words
    try:
        revise_ranking(
            assignment_id=assignment_id,
            annotator=request.user,
            idempotency_key=request.POST.get("key", "")[:80],
            answer=answer,
        )
    except NothingChanged as refusal:
        messages.info(request, str(refusal))
        return redirect(page_of_work(request))
    except Refused as refusal:
        messages.error(request, str(refusal))
        return correction_page(request, given, said=answer, status=409 if isinstance(refusal, Conflict) else 422)
    messages.success(request, _("Corrected."))
    return redirect(page_of_work(request))


def page_of_work(request) -> str:
    """The page of My work that a correction was opened from."""
    page = whole_number(request.GET.get("page"))
    return f"{reverse('work')}?page={page}" if page else reverse("work")


@needs(MAY_ANNOTATE)
def changes(request):
    """What your answers changed. Nothing here can anchor the next answer: no text, no order, no score of one."""
    return render(request, "changes.html", {"policies": changes_by_policy(request.user)})
