"""Who belongs to a pool, and the comparisons whose right answer is known."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView, get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayManage
from annotate.api.strict import ByCompletionField, EmptySerializer, IdField, StrictSerializer, checked
from annotate.models import Comparison, PoolMember, PromptPool, User
from annotate.services.gold import make_gold, withdraw_gold
from annotate.services.pools import add_member, let_through, remove_member


class MemberSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    person = serializers.IntegerField(source="user_id")
    email = serializers.EmailField(source="user.email")
    qualified_at = serializers.DateTimeField(allow_null=True)


class NewMemberSerializer(StrictSerializer):
    person = IdField()


class GoldSerializer(StrictSerializer):
    """`comparison` is copied; `ranks` are by its completions' ids."""

    comparison = IdField()
    kind = serializers.ChoiceField([Comparison.Kind.GOLD.value, Comparison.Kind.TRAINING.value])
    ranks = ByCompletionField(child=serializers.IntegerField(min_value=1, max_value=9))
    explanation = serializers.CharField(allow_blank=True, default="", max_length=5000)


class MadeGoldSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    gold_ranks = serializers.JSONField()
    explanation = serializers.CharField(source="gold_explanation")


class PoolMembers(GenericAPIView):
    permission_classes = [MayManage]
    serializer_class = MemberSerializer

    @extend_schema(summary="Members of a pool", responses=MemberSerializer(many=True))
    def get(self, request, pk: int):
        members = get_object_or_404(PromptPool, pk=pk).memberships.select_related("user").order_by("id")
        return self.get_paginated_response(MemberSerializer(self.paginate_queryset(members), many=True).data)

    @extend_schema(summary="Let somebody in", request=NewMemberSerializer, responses={201: MemberSerializer, **ERRORS})
    def post(self, request, pk: int):
        pool = get_object_or_404(PromptPool, pk=pk)
        person = get_object_or_404(User, pk=checked(NewMemberSerializer, request).validated_data["person"])
        member = add_member(pool=pool, user=person, by=request.user)
        return Response(MemberSerializer(member).data, status=status.HTTP_201_CREATED)


class PoolMemberDetail(APIView):
    permission_classes = [MayManage]

    @extend_schema(summary="Take somebody's place away", responses={204: None, **ERRORS})
    def delete(self, request, pk: int, member: int):
        remove_member(member=get_object_or_404(PoolMember, pk=member, pool=pk), by=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class PoolMemberLetThrough(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Let somebody through without the training",
        request=EmptySerializer,
        responses={200: MemberSerializer, **ERRORS},
    )
    def post(self, request, pk: int, member: int):
        checked(EmptySerializer, request)
        found = get_object_or_404(PoolMember, pk=member, pool=pk)
        let_through(member=found, by=request.user)
        return Response(MemberSerializer(found).data)


class PoolGold(APIView):
    permission_classes = [MayManage]

    @extend_schema(
        summary="Copy a comparison as gold or training, with its right order",
        request=GoldSerializer,
        responses={201: MadeGoldSerializer, **ERRORS},
    )
    def post(self, request, pk: int):
        asked = checked(GoldSerializer, request).validated_data
        comparison = get_object_or_404(Comparison, pk=asked.pop("comparison"), pool=pk)
        made = make_gold(comparison=comparison, by=request.user, **asked)
        return Response(MadeGoldSerializer(made).data, status=status.HTTP_201_CREATED)


class PoolGoldDetail(APIView):
    permission_classes = [MayManage]

    @extend_schema(summary="Offer a gold comparison no more", responses={204: None, **ERRORS})
    def delete(self, request, pk: int, comparison: int):
        gold = Comparison.objects.exclude(kind=Comparison.Kind.FRESH)
        withdraw_gold(comparison=get_object_or_404(gold, pk=comparison, pool=pk), by=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)
