"""The annotator's call that says: I am still at work on these."""

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from annotate.api.errors import ERRORS
from annotate.api.permissions import MayAnnotate
from annotate.api.strict import IdField, StrictSerializer, checked
from annotate.services.renewal import renew_leases


class HoldingSerializer(StrictSerializer):
    holding = serializers.ListField(child=IdField(), max_length=100, help_text="Assignments you are still at work on.")


class RenewedSerializer(serializers.Serializer):
    renewed = serializers.DictField(
        child=serializers.DateTimeField(), help_text="When each lease ends now. One that is missing is yours no longer."
    )


class AssignmentRenewal(APIView):
    permission_classes = [MayAnnotate]

    @extend_schema(
        summary="Keep the leases you are still at work on",
        request=HoldingSerializer,
        responses={200: RenewedSerializer, **ERRORS},
    )
    def post(self, request):
        holding = checked(HoldingSerializer, request).validated_data["holding"]
        renewed = renew_leases(annotator=request.user, holding=holding)
        return Response(RenewedSerializer({"renewed": {str(pk): ends for pk, ends in renewed.items()}}).data)
