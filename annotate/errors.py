"""Why a service refuses, one exception per reason. Views show the sentence; the API says 422, or 409 for a Conflict."""

from django.utils.translation import gettext_lazy as _


class Refused(Exception):
    """The request cannot be done as it is. The message is for the person who made it."""

    code = "refused"
    sentence = _("That cannot be done.")

    def __init__(self, sentence: str | None = None, **extra):
        super().__init__(sentence or self.sentence)
        self.extra = extra


class IncompleteRanking(Refused):
    code = "incomplete_ranking"
    sentence = _("Every completion needs a rank.")


class Conflict(Refused):
    """Somebody or something was quicker."""

    code = "conflict"


class StaleLease(Conflict):
    code = "stale_lease"
    sentence = _("This comparison was lent to you for a while and the time is over. Your answer was not counted.")


class AlreadyAnswered(Conflict):
    code = "already_answered"
    sentence = _("You answered this comparison already, in another tab or on another device. The first answer stands.")


class KeyUsedTwice(Conflict):
    code = "key_used_twice"
    sentence = _("This idempotency key belongs to another answer.")


class FrozenRanking(Conflict):
    code = "frozen_ranking"
    sentence = _("A snapshot has used this answer already; it can no longer be changed.")


class NoSkipInTraining(Refused):
    code = "no_skip_in_training"
    sentence = _(
        "A training comparison cannot be skipped. Rank it as well as you can; the right answer comes afterwards."
    )


class NothingChanged(Refused):
    code = "nothing_changed"
    sentence = _("Nothing was changed: your answer stands as it was.")


class RunActive(Conflict):
    code = "run_active"
    sentence = _("A run of this policy is at work already.")


class NothingToLearnFrom(Refused):
    code = "nothing_to_learn_from"
    sentence = _("There are too few rankings to learn from.")


class WrongFilter(Refused):
    code = "wrong_filter"


class NothingToFreeze(Refused):
    code = "nothing_to_freeze"
    sentence = _("No ranking fits these filters.")
