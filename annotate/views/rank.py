"""The annotator's page."""

from django.shortcuts import render

from annotate.roles import MAY_ANNOTATE
from annotate.views.access import needs


@needs(MAY_ANNOTATE)
def rank(request):
    return render(request, "rank.html")
