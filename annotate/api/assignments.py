"""The annotator's calls: lease a comparison, answer it, correct the answer, skip."""

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayAnnotate
from annotate.api.strict import ByCompletionField, IdField, StrictSerializer, checked
from annotate.models import Assignment, Comparison, GuidelineVersion, Ranking
from annotate.own_work import own_answers
from annotate.selectors import completions_as_shown
from annotate.services.assignments import lease_next_comparison, skip_comparison
from annotate.services.rankings import LONGEST_TEXT, Answer, is_right, revise_ranking, submit_ranking

LARGEST_COUNT = 2**31 - 1
LONGEST_KEY = 80
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="Made by the client, once for each answer: the same key again stores nothing and answers the same.",
    examples=[OpenApiExample("A key", "4f1c9a2e")],
)
RANKS = {"ranks": {"31": 1, "29": 2}}  # by completion, the first of which is better


class LeaseSerializer(StrictSerializer):
    pool = IdField(required=False, allow_null=True, help_text="Only from this pool.")
    holding = serializers.ListField(
        child=IdField(),
        required=False,
        allow_null=True,
        max_length=100,
        help_text="Assignments you still have. One of yours that is not among them comes back first, renewed.",
    )


class MessageSerializer(serializers.Serializer):
    role = serializers.CharField()
    content = serializers.CharField()


class AssignedPromptSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    messages = MessageSerializer(many=True)
    language = serializers.CharField()


class AssignedCompletionSerializer(serializers.Serializer):
    """No checkpoint, no score: whoever ranks does not know who wrote it."""

    id = serializers.IntegerField()
    text = serializers.CharField()
    names_its_model = serializers.BooleanField()


class AssignmentSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    token = serializers.CharField()
    expires_at = serializers.DateTimeField()
    pool = serializers.IntegerField(source="comparison.pool_id")
    pool_name = serializers.CharField(source="comparison.pool.name")
    prompt = AssignedPromptSerializer(source="comparison.prompt")
    completions = serializers.SerializerMethodField()
    ties_allowed = serializers.BooleanField(source="comparison.pool.ties_allowed")
    strength_scale = serializers.IntegerField(source="comparison.pool.strength_scale")
    axes = serializers.JSONField(source="comparison.pool.axes")
    flags = serializers.JSONField(source="comparison.pool.flags")
    rationale_chips = serializers.JSONField(source="comparison.pool.rationale_chips")
    asks_rationale = serializers.BooleanField(source="comparison.pool.asks_rationale")
    asks_spans = serializers.BooleanField(source="comparison.pool.asks_spans")
    asks_better_answer = serializers.BooleanField(source="comparison.pool.asks_better_answer")
    is_training = serializers.SerializerMethodField()
    guideline_version = serializers.SerializerMethodField()

    @extend_schema_field(AssignedCompletionSerializer(many=True))
    def get_completions(self, assignment: Assignment) -> list[dict]:
        return AssignedCompletionSerializer(completions_as_shown(assignment), many=True).data

    def get_is_training(self, assignment: Assignment) -> bool:
        return assignment.comparison.kind == Comparison.Kind.TRAINING

    def get_guideline_version(self, assignment: Assignment) -> int | None:
        versions = GuidelineVersion.objects.filter(pk=assignment.guideline_version_id)
        return versions.values_list("version", flat=True).first()


class SpanSerializer(StrictSerializer):
    """Characters `start` ≤ i < `end` of a completion's text."""

    completion = IdField()
    start = serializers.IntegerField(min_value=0, max_value=LARGEST_COUNT)
    end = serializers.IntegerField(min_value=1, max_value=LARGEST_COUNT)
    label = serializers.CharField(max_length=60, allow_blank=True, default="")
    note = serializers.CharField(max_length=1000, allow_blank=True, default="")


class ShortName(serializers.CharField):
    def __init__(self, **kwargs):
        super().__init__(max_length=60, **kwargs)


class AnswerSerializer(StrictSerializer):
    """`ranks` by completion id: 1 is best, equal numbers are ties. All bad needs none."""

    ranks = ByCompletionField(child=serializers.IntegerField(min_value=1, max_value=LARGEST_COUNT), default=dict)
    all_bad = serializers.BooleanField(default=False)
    flags = ByCompletionField(child=serializers.ListField(child=ShortName(), max_length=20), default=dict)
    axes = ByCompletionField(
        child=serializers.DictField(child=serializers.IntegerField(min_value=1, max_value=5)), default=dict
    )
    spans = SpanSerializer(many=True, default=list)
    strength = serializers.IntegerField(min_value=1, max_value=4, allow_null=True, default=None)
    rationale = serializers.CharField(max_length=LONGEST_TEXT, allow_blank=True, default="")
    chips = serializers.ListField(child=ShortName(), max_length=20, default=list)
    better_answer = serializers.CharField(max_length=LONGEST_TEXT, allow_blank=True, default="")
    active_ms = serializers.IntegerField(min_value=0, max_value=LARGEST_COUNT, allow_null=True, default=None)
    first_action_ms = serializers.IntegerField(min_value=0, max_value=LARGEST_COUNT, allow_null=True, default=None)
    changes = serializers.IntegerField(min_value=0, max_value=LARGEST_COUNT, allow_null=True, default=None)

    @property
    def answer(self) -> Answer:
        return Answer(**{name: value for name, value in self.validated_data.items() if name != "token"})


class SubmitSerializer(AnswerSerializer):
    token = serializers.CharField(max_length=64)


class SkipSerializer(StrictSerializer):
    token = serializers.CharField(max_length=64)
    reason = serializers.CharField(max_length=200, allow_blank=True, default="")


class FeedbackSerializer(serializers.Serializer):
    """What an annotator in training learns after the answer."""

    is_right = serializers.SerializerMethodField()
    gold_ranks = serializers.JSONField(source="assignment.comparison.gold_ranks")
    explanation = serializers.CharField(source="assignment.comparison.gold_explanation")

    def get_is_right(self, ranking: Ranking) -> bool:
        return is_right(ranking)


class RankingSerializer(serializers.Serializer):
    id = serializers.IntegerField()
    assignment = serializers.IntegerField(source="assignment_id")
    revision = serializers.IntegerField()
    ranks = serializers.DictField(child=serializers.IntegerField())
    all_bad = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    feedback = serializers.SerializerMethodField(help_text="Of a training comparison; null for every other.")

    @extend_schema_field(FeedbackSerializer(allow_null=True))
    def get_feedback(self, ranking: Ranking) -> dict | None:
        if ranking.assignment.comparison.kind != Comparison.Kind.TRAINING:
            return None
        return FeedbackSerializer(ranking).data


def idempotency_key(request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise ValidationError(
            {
                "Idempotency-Key": [
                    _("This header must hold up to %(most)d plain characters, new for each answer.")
                    % {"most": LONGEST_KEY}
                ]
            }
        )
    return key


class OwnAnswerSerializer(serializers.Serializer):
    """What one answered; `is_frozen`: a snapshot has used it, so it can no longer be corrected."""

    assignment = serializers.IntegerField(source="assignment_id")
    pool = serializers.IntegerField(source="pool_id")
    prompt = AssignedPromptSerializer(source="assignment.comparison.prompt")
    shown = serializers.ListField(child=serializers.IntegerField(), source="assignment.order")
    ranks = serializers.DictField(child=serializers.IntegerField())
    all_bad = serializers.BooleanField()
    revision = serializers.IntegerField()
    is_frozen = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class Assignments(GenericAPIView):
    permission_classes = [MayAnnotate]
    serializer_class = OwnAnswerSerializer

    @extend_schema(summary="Your own answers, newest first", responses=OwnAnswerSerializer(many=True))
    def get(self, request):
        page = self.paginate_queryset(own_answers(request.user))
        return self.get_paginated_response(OwnAnswerSerializer(page, many=True).data)

    @extend_schema(
        summary="Lease the next comparison",
        request=LeaseSerializer,
        responses={201: AssignmentSerializer, 204: OpenApiResponse(description="There is none now."), **ERRORS},
    )
    def post(self, request):
        asked = checked(LeaseSerializer, request).validated_data
        assignment = lease_next_comparison(
            annotator=request.user, pool_id=asked.get("pool"), holding=asked.get("holding")
        )
        if assignment is None:
            return Response(status=status.HTTP_204_NO_CONTENT)
        return Response(AssignmentSerializer(assignment).data, status=status.HTTP_201_CREATED)


class AssignmentRanking(APIView):
    permission_classes = [MayAnnotate]

    @extend_schema(
        summary="Answer: rank the completions",
        parameters=[IDEMPOTENCY_KEY],
        request=SubmitSerializer,
        examples=[OpenApiExample("The first is better", RANKS | {"token": "q1w2"}, request_only=True)],
        responses={201: RankingSerializer, 200: RankingSerializer, **ERRORS},
    )
    def post(self, request, pk: int):
        serializer = checked(SubmitSerializer, request)
        ranking, is_new = submit_ranking(
            assignment_id=pk,
            annotator=request.user,
            token=serializer.validated_data["token"],
            idempotency_key=idempotency_key(request),
            answer=serializer.answer,
        )
        return answered(ranking, is_new)


class AssignmentRevision(APIView):
    permission_classes = [MayAnnotate]

    @extend_schema(
        summary="Correct your answer, until a snapshot has used it",
        parameters=[IDEMPOTENCY_KEY],
        request=AnswerSerializer,
        examples=[OpenApiExample("The first is better", RANKS, request_only=True)],
        responses={201: RankingSerializer, 200: RankingSerializer, **ERRORS},
    )
    def post(self, request, pk: int):
        ranking, is_new = revise_ranking(
            assignment_id=pk,
            annotator=request.user,
            idempotency_key=idempotency_key(request),
            answer=checked(AnswerSerializer, request).answer,
        )
        return answered(ranking, is_new)


class AssignmentSkip(APIView):
    permission_classes = [MayAnnotate]

    @extend_schema(
        summary="Leave a comparison to somebody else",
        request=SkipSerializer,
        responses={204: OpenApiResponse(description="Skipped, or skipped before."), **ERRORS},
    )
    def post(self, request, pk: int):
        skip_comparison(assignment_id=pk, annotator=request.user, **checked(SkipSerializer, request).validated_data)
        return Response(status=status.HTTP_204_NO_CONTENT)


def answered(ranking: Ranking, is_new: bool) -> Response:
    code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
    return Response(RankingSerializer(ranking).data, status=code)
