"""Freezing rankings: the exact set that a run or an export used, hashed, so that anybody can tell it is the same.

The content hash is the SHA-256 of the snapshot's `rankings.jsonl`, byte for byte the file of a run folder
(docs/run-folder.md): `sha256sum rankings.jsonl` proves what a run learned from.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Max
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.errors import NothingToFreeze, WrongFilter
from annotate.lineage import checkpoints_touched_by
from annotate.models import Policy, PolicyCheckpoint, PreferenceSnapshot, Ranking, User
from annotate.preferences import PreferenceFilters, RankedCompletion, RankingRow, ranking_rows
from annotate.services.audit import record

# Locking the rows makes whoever corrects one of them wait, and look again whether a snapshot has it.
COPY = """
INSERT INTO annotate_preferencesnapshot_rankings (preferencesnapshot_id, ranking_id)
SELECT %s, chosen.id FROM ({chosen} FOR SHARE OF annotate_ranking) AS chosen
"""


@transaction.atomic
def freeze_preferences(
    *,
    policy: Policy,
    filters: PreferenceFilters | Mapping[str, Any] | None = None,
    created_by: User | None = None,
    note: str = "",
) -> PreferenceSnapshot:
    """Freeze the newest revisions of one policy's rankings that count, of people who did not withdraw.

    Raises NothingToFreeze where the filters leave none, WrongFilter.
    """
    if not isinstance(filters, PreferenceFilters):
        filters = PreferenceFilters.from_values(filters or {})
    if filters.snapshot is not None or filters.policy not in (None, policy.pk, policy.name):
        raise WrongFilter(_("A snapshot is of one policy, and not of another snapshot."))
    snapshot = PreferenceSnapshot.objects.create(
        policy=policy, filters=filters.as_json(), size=0, created_by=created_by, note=note
    )
    chosen = filters.apply(Ranking.objects.filter(pool__policy=policy)).values("id")
    sql, parameters = chosen.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(COPY.format(chosen=sql), [snapshot.pk, *parameters])
    frozen = snapshot.rankings.aggregate(size=Count("id"), newest=Max("id"))
    if not frozen["size"]:
        raise NothingToFreeze
    snapshot.size, snapshot.newest_ranking_id = frozen["size"], frozen["newest"]
    digest = hashlib.sha256()
    for line in ranking_lines(snapshot):
        digest.update(line)
    snapshot.content_hash = digest.hexdigest()
    snapshot.save(update_fields=["size", "newest_ranking_id", "content_hash"])
    record(created_by, "freeze.preferences", snapshot, policy=policy.name, filters=snapshot.filters)
    return snapshot


def snapshot_rankings(snapshot: PreferenceSnapshot) -> Iterator[dict[str, Any]]:
    """The frozen rankings, oldest first, as the records of a run folder's `rankings.jsonl`."""
    rows = ranking_rows(Ranking.objects.filter(snapshots=snapshot), with_token_ids=snapshot.has_token_ids)
    return (ranking_record(row) for row in rows)


def snapshot_demonstrations(snapshot: PreferenceSnapshot) -> Iterator[dict[str, Any]]:
    """The better answers of the frozen rankings, frozen with them, as the records of `demonstrations.jsonl`.

    Only those to train prompts: the policy may imitate them.
    """
    for row in ranking_rows(Ranking.objects.filter(snapshots=snapshot, demonstration__isnull=False)):
        if not row.is_held_out:
            yield {"id": str(row.id), "messages": row.demonstration}


def ranking_lines(snapshot: PreferenceSnapshot) -> Iterator[bytes]:
    for each in snapshot_rankings(snapshot):
        yield json.dumps(each, ensure_ascii=False).encode() + b"\n"


def ranking_record(row: RankingRow) -> dict[str, Any]:
    values = {
        "id": str(row.id),
        "prompt_id": str(row.prompt_id),
        "prompt": row.prompt,
        "completions": [completion_record(each) for each in row.completions],
        "ranks": [1 if row.all_bad else each.rank for each in row.completions],
        "split": row.split,
        "annotator": row.annotator,
        "language": row.language,
        "checkpoints": [each.checkpoint for each in row.completions],
    }
    if row.strength is not None:
        values["strength"] = row.strength
    return values


def completion_record(completion: RankedCompletion) -> dict[str, Any]:
    """Its text, and the tokens it was sampled as: a cut inside a character cannot be told from the text."""
    values = {"id": str(completion.id), "text": completion.text}
    return values | ({"token_ids": list(completion.token_ids)} if completion.token_ids else {})


@transaction.atomic
def withdraw_annotator(*, annotator: User, by: User | None = None) -> list[PolicyCheckpoint]:
    """Take a person's answers out of every later snapshot and export, and close the account.

    Returns the checkpoints that learned from them. Snapshots that exist are frozen and keep them.
    """
    touched = checkpoints_touched_by(annotator)
    annotator.withdrawn_at, annotator.is_active = annotator.withdrawn_at or timezone.now(), False
    annotator.save(update_fields=["withdrawn_at", "is_active"])
    record(by, "withdraw.person", annotator, checkpoints=[checkpoint.name for checkpoint in touched])
    return touched
