"""What the ranking page's script is given: addresses, keys, and the sentences it says."""

from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.urls import reverse
from django.utils.html import json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from annotate.keys import keys_of
from annotate.models import PromptPool, User

BREAK_AFTER_MINUTES = 50
SKIP_HELD_SECONDS = 8  # in which it can be taken back


class Compact(DjangoJSONEncoder):
    """JSON in the fewest bytes, since the page counts them: no spaces, letters as they are."""

    def __init__(self, **options: Any):
        super().__init__(**options | {"separators": (",", ":"), "ensure_ascii": False})


def page_data(user: User, pool: PromptPool | None) -> SafeString:
    """A script element with the id `page-data`."""
    data = {
        "user": user.pk,
        "pool": pool.pk if pool else None,
        "keys": keys_of(user),
        "breakAfterMinutes": BREAK_AFTER_MINUTES,
        "skipHeldSeconds": SKIP_HELD_SECONDS,
        "urls": {
            "next": reverse("rank_next"),
            "ranking": reverse("api_assignment_ranking", args=[0]),
            "revision": reverse("api_assignment_revision", args=[0]),
            "correction": reverse("correction", args=[0]),
            "skip": reverse("api_assignment_skip", args=[0]),
            "renewal": reverse("api_assignment_renewal"),
            "signIn": f"{reverse('account_login')}?next=",
        },
        "strings": {
            "saved": _("Saved"),
            "plain": _("This browser keeps nothing for this site: rank without keys, each answer is sent at once."),
            "notKept": _("This browser could not keep the answer. Make room on its disk, then submit again."),
            "waiting": _("{n} waiting"),
            "offline": _("No connection: {n} answers are kept in this browser and will be sent automatically."),
            "offlineOne": _("No connection: {n} answer is kept in this browser and will be sent automatically."),
            "aside": _(
                "Some answers are not stored yet: the server fails at them or does not reply. They are tried again"
                " every few minutes; all others go on."
            ),
            "tryNow": _("Try again now"),
            "stillAside": _("It is still not stored."),
            "signedOut": _("You are signed out."),
            "signIn": _("Sign in"),
            "forbidden": _(
                "The server takes nothing from this page now: somebody else has signed in in this browser, your role "
                "has changed, or the page is too old."
            ),
            "loadAgain": _("Load the page again"),
            "keptNone": "{trouble}",
            "kept": _("{trouble} {n} answers are kept in this browser until they can be sent."),
            "keptOne": _("{trouble} {n} answer is kept in this browser until it can be sent."),
            "next": _("Next:"),
            "goesOn": _("It goes on: the rest is on the page."),
            "placed": _("{letter}: rank {rank}"),
            "unplaced": _("{letter}: no rank"),
            "complete": _("Every completion has a rank. Enter submits."),
            "bothSaid": _("{one}. {other}"),
            "incomplete": _("Say first which of the two is better."),
            "noRank": _("{letters} have no rank yet."),
            "noRankOne": _("{letters} has no rank yet."),
            "noTies": _("Ties are not allowed in this pool."),
            "allTied": _("All tied. Enter submits."),
            "allBad": _("All bad"),
            "notAllBad": _("Not all bad"),
            "undone": _("Undone"),
            "noSkip": _("Training comparisons cannot be skipped."),
            "skipped": _("Skipped"),
            "notSkipped": _("It is not skipped. Rank it after all."),
            "takenBack": _("Your last answer is back. Correct it and submit."),
            "unchanged": _("Nothing was changed."),
            "frozen": _("A snapshot has used this answer already; it can no longer be changed."),
            "nothingToTakeBack": _(
                "Nothing to take back since this page was loaded. My work has all answers that count."
            ),
            "strength": _("How much better? Press its number, or Enter to leave it open."),
            "noStrength": _("How much better: left open"),
            "lost": _(
                "Meanwhile somebody else has that comparison now, or you answered it elsewhere. Here is the next one."
            ),
            "noFeedback": _("What the right answer is cannot be loaded now."),
            "noMarks": _("Marking words cannot be loaded now."),
            "noGuidelines": _("The guidelines cannot be loaded now."),
            "noKeys": _("The list of keys cannot be loaded now."),
            "restored": _("What you had begun is back."),
            "raw": _("Texts as they were written"),
            "rendered": _("Texts with their marks drawn"),
            "panes": _("Long texts scroll together"),
            "shortTexts": _("Nothing to scroll together: these texts fit the window, or it is too small."),
            "noPanes": _("Texts at full length"),
            "marked": _("Marked: {text}"),
            "unmarked": _("Mark removed: {text}"),
            "selectFirst": _("Select some words of a completion first."),
            "removeMark": _("Remove the mark: {text}"),
            "mark": _("{label}: “{text}”"),
            "good": _("good"),
            "bad": _("bad"),
            "break": _("You have ranked for {n} minutes. A short rest keeps the judgement sharp."),
            "diffTooLong": _("These texts are too long, or differ too much; they are compared line by line."),
            "differences": _("Differences: {n}"),
            "noDifferences": _("The differences cannot be loaded now."),
            "same": _("The two are the same, letter by letter."),
        },
    }
    return json_script(data, "page-data", encoder=Compact)
