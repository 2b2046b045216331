"""Who may call what. Every view names one of these; one that names none is closed."""

from rest_framework.permissions import SAFE_METHODS, BasePermission

from annotate.roles import MAY_ANNOTATE, MAY_MANAGE, MAY_RESEARCH, MAY_SIGN_IN, has_role


class Nobody(BasePermission):
    def has_permission(self, request, view) -> bool:
        return False


class RolePermission(BasePermission):
    allowed: frozenset[str] = frozenset()

    def has_permission(self, request, view) -> bool:
        return has_role(request.user, self.allowed)


class SignedIn(RolePermission):
    allowed = MAY_SIGN_IN


class MayAnnotate(RolePermission):
    allowed = MAY_ANNOTATE


class MayManage(RolePermission):
    allowed = MAY_MANAGE


class MayResearch(RolePermission):
    allowed = MAY_RESEARCH


class EverybodyReadsManagersWrite(BasePermission):
    def has_permission(self, request, view) -> bool:
        return has_role(request.user, MAY_SIGN_IN if request.method in SAFE_METHODS else MAY_MANAGE)


class ResearchersReadManagersWrite(BasePermission):
    def has_permission(self, request, view) -> bool:
        return has_role(request.user, MAY_RESEARCH if request.method in SAFE_METHODS else MAY_MANAGE)
