"""What every page needs: the roles of its reader."""

from annotate.roles import MAY_ANNOTATE, MAY_MANAGE, MAY_RESEARCH, has_role


def page(request) -> dict:
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "may_annotate": has_role(user, MAY_ANNOTATE),
        "may_manage": has_role(user, MAY_MANAGE),
        "may_research": has_role(user, MAY_RESEARCH),
    }
