"""A database that was made by an earlier version becomes one of this version, with what people wrote in it."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from annotate.models import AuditEvent, Comparison, PreferenceSnapshot, Ranking, User
from annotate.services.gold import make_gold
from annotate.services.snapshots import freeze_preferences, snapshot_rankings
from tests.worlds import make_comparison, make_person, make_policy, make_pool, make_prompt, make_ranking


@pytest.mark.django_db
def test_the_migrations_make_what_the_models_say():
    call_command("makemigrations", check=True, dry_run=True)


@pytest.fixture
def migrate_to(transactional_db):
    """Moves `annotate` to a migration and gives the models as they were then; at the end all is up to date again."""

    def move(name):
        MigrationExecutor(connection).migrate([("annotate", name)])
        executor = MigrationExecutor(connection)  # anew: it reads what has been applied when it is made
        return executor.loader.project_state([("annotate", name)]).apps

    yield move
    call_command("migrate", verbosity=0)


def demonstrations_of(apps):
    return apps.get_model("annotate", "Demonstration").objects


def test_a_better_answer_of_an_earlier_version_belongs_to_the_newest_revision(migrate_to):
    alice, prompt = make_person("alice"), make_prompt(make_pool(make_policy()), "Say hello")
    first = make_ranking(make_comparison(prompt, ["a", "b"]), alice, [1, 2], is_current=False)
    again = {"revision": 2, "ranks": {}, "idempotency_key": "again"}
    newest = Ranking.objects.create(assignment=first.assignment, pool=first.pool, annotator=alice, **again)
    demonstrations = demonstrations_of(migrate_to("0002_second_opinions"))
    values = {"prompt_id": prompt.pk, "author_id": alice.pk}
    demonstrations.create(assignment_id=first.assignment_id, text="A better one.", **values)
    demonstrations.create(assignment_id=None, text="Of an assignment that is gone.", **values)
    demonstrations = demonstrations_of(migrate_to("0003_better_answers_belong_to_revisions"))
    assert list(demonstrations.values_list("ranking_id", "text")) == [(newest.pk, "A better one.")]


def test_gold_of_an_earlier_version_learns_what_it_was_copied_from(migrate_to):
    original = make_comparison(make_prompt(make_pool(make_policy()), "Say hello"), ["a", "b"])
    ranks = dict(zip(original.completions.values_list("id", flat=True), (1, 2), strict=True))
    gold = make_gold(comparison=original, kind="gold", ranks=ranks, explanation="", by=None)
    lost = make_gold(comparison=original, kind="gold", ranks=ranks, explanation="", by=None)
    AuditEvent.objects.filter(target__startswith=f"comparison {lost.pk}:").update(detail={"copied_from": 0})
    migrate_to("0003_better_answers_belong_to_revisions")
    migrate_to("0004_copies_know_their_original")
    found = dict(Comparison.objects.values_list("pk", "copied_from"))
    assert found == {original.pk: None, gold.pk: original.pk, lost.pk: None}


def test_a_snapshot_of_an_earlier_version_still_has_the_records_that_were_hashed(migrate_to):
    comparison = make_comparison(make_prompt(make_pool(make_policy()), "Say hello"), ["a", "b"])
    comparison.completions.update(token_ids=[7, 2])
    make_ranking(comparison, make_person("alice", "annotator"), [1, 2])
    snapshot = freeze_preferences(policy=comparison.pool.policy)
    assert all("token_ids" in each for record in snapshot_rankings(snapshot) for each in record["completions"])
    migrate_to("0004_copies_know_their_original")
    migrate_to("0005_snapshots_know_their_tokens")
    snapshot = PreferenceSnapshot.objects.get()
    assert not any("token_ids" in each for record in snapshot_rankings(snapshot) for each in record["completions"])


def test_addresses_of_an_earlier_version_are_in_small_letters_but_for_one_that_another_account_has(migrate_to):
    people = migrate_to("0005_snapshots_know_their_tokens").get_model("annotate", "User").objects
    addresses = ["Emil@example.org", "dora@example.org", "Dora@example.org", "ADA@example.org", "Ada@example.org"]
    for number, address in enumerate(addresses):
        people.create(username=address, email=address, pseudonym=f"a-{number}")
    people.create(username="Root", email="Root@example.org", pseudonym="a-root")
    migrate_to("0006_addresses_in_small_letters")
    small = ["emil@example.org", "dora@example.org", "Dora@example.org", "ada@example.org", "Ada@example.org"]
    expected = [*((address, address) for address in small), ("Root", "root@example.org")]
    assert list(User.objects.order_by("pk").values_list("username", "email")) == expected
