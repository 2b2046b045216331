"""How PostgreSQL goes about a lease where there is much: candidate by candidate, over indexes."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.models import Comparison
from annotate.services.assignments import LEASE
from bench import web_world

WHOLE_TABLE = re.compile(r"Seq Scan on annotate_(?:comparison|assignment|completion)|hashed SubPlan")


@pytest.fixture
def values(db, monkeypatch):
    """A pool with thousands of comparisons, fifty of them copies, and somebody who ranked in it before."""
    monkeypatch.setattr(web_world, "OPEN_COMPARISONS", 3000)
    world = web_world.make_world(annotators=0)
    web_world.fill(world, 4000)
    originals = Comparison.objects.filter(answered__gt=0).order_by("id")[:50]
    Comparison.objects.bulk_create(
        Comparison(pool_id=each.pool_id, prompt_id=each.prompt_id, kind="gold", overlap=1000, copied_from=each)
        for each in originals
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    now = timezone.now()
    lease = {"token": "t", "now": now, "expires": now + timedelta(minutes=30), "with_known_texts": False}
    return {"pool": world["values"]["pool"], "annotator": world["first"], **lease}


@pytest.mark.parametrize("kind", ["fresh", "gold"])
def test_it_reads_no_table_as_a_whole(values, kind):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {LEASE}", values | {"kind": kind})
        plan = [line for (line,) in cursor.fetchall()]
    assert [line for line in plan if WHOLE_TABLE.search(line)] == []
