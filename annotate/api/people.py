"""People and invitations, for managers."""

from django.db import transaction
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayManage
from annotate.api.strict import EmptySerializer, StrictSerializer, checked
from annotate.models import AuditEvent, Invitation, User
from annotate.roles import Role, remember_roles, roles_of
from annotate.services.invitations import invite_person, revoke_invitation
from annotate.services.people import change_role, deactivate_person, reactivate_person, withdraw_person


class PersonSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    email = serializers.EmailField()
    pseudonym = serializers.CharField()
    roles = serializers.SerializerMethodField()
    is_active = serializers.BooleanField()
    withdrawn_at = serializers.DateTimeField(allow_null=True)

    def get_roles(self, person: User) -> list[str]:
        """Also of an account that is closed: what it may again once it is open."""
        groups = {group.name for group in person.groups.all()}  # read with all the people of the list
        remember_roles(person, groups)
        return sorted(roles_of(person) | groups & set(Role.values))


class PersonChangeSerializer(StrictSerializer):
    role = serializers.ChoiceField(Role.choices, required=False)
    is_active = serializers.BooleanField(required=False)


class InvitationSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    email = serializers.EmailField()
    role = serializers.CharField()
    expires_at = serializers.DateTimeField()
    link = serializers.SerializerMethodField()

    def get_link(self, invitation: Invitation) -> str:
        return self.context["request"].build_absolute_uri(reverse("invitation", args=[invitation.token]))


class InviteSerializer(StrictSerializer):
    email = serializers.EmailField()
    role = serializers.ChoiceField(Role.choices)


class AuditEventSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    actor = serializers.IntegerField(source="actor_id", allow_null=True)
    action = serializers.CharField()
    target = serializers.CharField()
    detail = serializers.JSONField()
    created_at = serializers.DateTimeField()


class People(GenericAPIView):
    permission_classes = [MayManage]
    serializer_class = PersonSerializer

    @extend_schema(summary="Everybody with an account", responses=PersonSerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(User.objects.prefetch_related("groups").order_by("id"))
        return self.get_paginated_response(PersonSerializer(page, many=True).data)


class PersonDetail(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Change a role, close an account or open it again",
        request=PersonChangeSerializer,
        responses={200: PersonSerializer, **ERRORS},
    )
    def patch(self, request, pk: int):
        person = get_object_or_404(User, pk=pk)
        asked = checked(PersonChangeSerializer, request).validated_data
        with transaction.atomic():
            if "role" in asked:
                change_role(user=person, role=asked["role"], by=request.user)
            if "is_active" in asked:
                (reactivate_person if asked["is_active"] else deactivate_person)(user=person, by=request.user)
        return Response(PersonSerializer(User.objects.get(pk=pk)).data)


class PersonWithdraw(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Take somebody's answers out of all that comes later",
        request=EmptySerializer,
        responses={200: serializers.ListSerializer(child=serializers.CharField()), **ERRORS},
    )
    def post(self, request, pk: int):
        checked(EmptySerializer, request)
        touched = withdraw_person(user=get_object_or_404(User, pk=pk), by=request.user)
        return Response([checkpoint.name for checkpoint in touched])


class Invitations(GenericAPIView):
    permission_classes = [MayManage]
    serializer_class = InvitationSerializer

    @extend_schema(summary="Open invitations", responses=InvitationSerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(Invitation.objects.open().order_by("-id"))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(
        summary="Invite somebody: a link for one account",
        request=InviteSerializer,
        responses={201: InvitationSerializer, **ERRORS},
    )
    def post(self, request):
        invitation = invite_person(by=request.user, **checked(InviteSerializer, request).validated_data)
        return Response(self.get_serializer(invitation).data, status=status.HTTP_201_CREATED)


class InvitationDetail(APIView):
    permission_classes = [MayManage]

    @extend_schema(summary="End an invitation", responses={204: None, **ERRORS})
    def delete(self, request, pk: int):
        revoke_invitation(invitation=get_object_or_404(Invitation, pk=pk), by=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class AuditEvents(GenericAPIView):
    permission_classes = [MayManage]
    serializer_class = AuditEventSerializer

    @extend_schema(summary="Who changed what, newest first", responses=AuditEventSerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(AuditEvent.objects.order_by("-id"))
        return self.get_paginated_response(AuditEventSerializer(page, many=True).data)
