"""/metrics for Prometheus: what a person who keeps this running would look at. Counted when asked."""

from collections.abc import Iterator

import redis
from django.db.models import Count, F, Max
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from rest_framework.views import APIView

from annotate.api.permissions import MayResearch
from annotate.models import Assignment, PolicyCheckpoint, Ranking
from annotate.progress import pools_with_counts
from config.heartbeat import PROGRAMS, living_programs
from trainer.models import TrainingRun

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class State(Collector):
    """The state of the system, in a handful of statements."""

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        yield from pools()
        yield from people_at_work()
        yield from runs()
        yield programs()


def pools() -> Iterator[GaugeMetricFamily]:
    ready = GaugeMetricFamily("whetstone_comparisons_ready", "Comparisons with a place left.", labels=["pool"])
    wanted = GaugeMetricFamily("whetstone_comparisons_wanted", "Comparisons a pool wants ready.", labels=["pool"])
    prompts = GaugeMetricFamily("whetstone_prompts", "Prompts in use.", labels=["pool"])
    rankings = GaugeMetricFamily("whetstone_rankings", "Rankings that count.", labels=["pool"])
    active = GaugeMetricFamily("whetstone_pool_active", "1: lends comparisons, 0: paused.", labels=["pool"])
    for pool in pools_with_counts():
        ready.add_metric([pool.name], pool.ready_count)
        wanted.add_metric([pool.name], pool.buffer_size)
        prompts.add_metric([pool.name], pool.prompt_count)
        rankings.add_metric([pool.name], pool.ranking_count)
        active.add_metric([pool.name], pool.status == pool.Status.ACTIVE)
    yield from (ready, wanted, prompts, rankings, active)


def people_at_work() -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    leased = Assignment.objects.filter(status=Assignment.Status.LEASED)
    yield GaugeMetricFamily("whetstone_leases", "Comparisons lent to somebody now.", value=leased.count())
    answers = Ranking.objects.aggregate(newest=Max("id"))["newest"] or 0
    yield CounterMetricFamily("whetstone_answers", "Answers stored, corrections too.", value=answers)


def runs() -> Iterator[GaugeMetricFamily]:
    by_status = GaugeMetricFamily("whetstone_runs", "Runs.", labels=["policy", "status"])
    for row in TrainingRun.objects.values("policy__name", "status").annotate(n=Count("id")).order_by():
        by_status.add_metric([row["policy__name"], row["status"]], row["n"])
    yield by_status
    serving = GaugeMetricFamily("whetstone_serving_checkpoint", "Number of the serving checkpoint.", labels=["policy"])
    found = PolicyCheckpoint.objects.filter(status=PolicyCheckpoint.Status.SERVING)
    for name, number in found.values_list(F("policy__name"), "number"):
        serving.add_metric([name], number)
    yield serving


def programs() -> GaugeMetricFamily:
    up = GaugeMetricFamily("whetstone_program_up", "1: said so in the last 20 seconds.", labels=["program"])
    try:
        living = living_programs()
    except redis.RedisError:
        living = set()
    for name in PROGRAMS:
        up.add_metric([name], name in living)
    return up


class Metrics(APIView):
    permission_classes = [MayResearch]

    @extend_schema(summary="Numbers for Prometheus", responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request):
        registry = CollectorRegistry()
        registry.register(State())
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE)
