"""People: invitations, roles, numbers, leaving and withdrawing."""

import pytest
from django.urls import reverse

from annotate import progress
from annotate.models import AuditEvent, Invitation, PolicyCheckpoint, User
from annotate.roles import roles_of
from annotate.services.assignments import lease_next_comparison
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_comparison, make_prompt, make_ranking
from trainer.models import TrainingRun


def person_of(response, name):
    return next(person for person in response.context["people"] if person.username == name)


def test_it_invites_and_shows_the_link_to_copy(maria):
    response = maria.post(reverse("people"), {"email": "Emil@Example.org", "role": "annotator"}, follow=True)
    invitation = Invitation.objects.get()
    assert f"http://testserver{reverse('invitation', args=[invitation.token])}" in response.text
    assert (invitation.email, invitation.role) == ("emil@example.org", "annotator")
    assert AuditEvent.objects.filter(action="make.invitation").exists()


@pytest.mark.parametrize(
    ("email", "role", "field"),
    [
        ("no address", "annotator", "email"),
        ("alice@example.org", "annotator", "email"),
        ("e@x.org", "king", "role"),
        (f"{'e' * 140}@example.org", "annotator", "email"),
    ],
)
def test_it_says_at_the_field_why_it_invites_nobody(maria, email, role, field):
    response = maria.post(reverse("people"), {"email": email, "role": role})
    assert field in response.context["form"].errors
    assert not Invitation.objects.exists()


def test_it_revokes_an_invitation(maria, client):
    maria.post(reverse("people"), {"email": "emil@example.org", "role": "annotator"})
    invitation = Invitation.objects.get()
    maria.post(reverse("invitation_revoke", args=[invitation.pk]))
    assert not Invitation.objects.open().exists()
    assert client.get(reverse("invitation", args=[invitation.token])).status_code == 410


def test_it_keeps_one_open_invitation_for_an_address(maria):
    for role in ("annotator", "researcher"):
        maria.post(reverse("people"), {"email": "emil@example.org", "role": role})
    assert [invitation.role for invitation in Invitation.objects.open()] == ["researcher"]


def test_it_measures_each_person(maria, cast, policy, pool):
    for number, (seconds, gold) in enumerate([(4, [1, 2]), (10, [1, 2]), (30, [2, 1])]):
        comparison = make_comparison(make_prompt(pool, f"Gold {number}"), ["a", "b"], kind="gold", overlap=9)
        first, second = comparison.completions.values_list("id", flat=True)
        comparison.gold_ranks = {str(first): 1, str(second): 2}
        comparison.save()
        make_ranking(comparison, cast["alice"], gold, active_ms=1000 * seconds)
    alice = person_of(maria.get(reverse("people")), "alice")
    assert alice.answers == 3
    assert alice.median_seconds == 10
    assert alice.gold_accuracy == pytest.approx(2 / 3)
    assert alice.agreement.tau is None


def test_training_is_not_counted_with_a_persons_rankings(maria, cast, pool):
    make_ranking(make_comparison(make_prompt(pool, "One"), ["a", "b"]), cast["alice"], [1, 2], active_ms=4000)
    training = make_comparison(make_prompt(pool, "Train"), ["a", "b"], kind="training", gold_ranks={})
    make_ranking(training, cast["alice"], [1, 2], counts=False, active_ms=90_000)
    alice = person_of(maria.get(reverse("people")), "alice")
    assert (alice.answers, alice.median_seconds) == (1, 4)
    assert [each["answers"] for each in progress.pools_of(cast["alice"])] == [1]


def test_the_median_time_is_of_the_newest_answers(maria, cast, pool, monkeypatch):
    monkeypatch.setattr(progress, "NEWEST_TIMES", 3)
    for number, seconds in enumerate((100, 100, 4, 10, 30)):
        comparison = make_comparison(make_prompt(pool, f"Prompt {number}"), ["a", "b"])
        make_ranking(comparison, cast["alice"], [1, 2], active_ms=1000 * seconds)
    assert person_of(maria.get(reverse("people")), "alice").median_seconds == 10


def test_it_measures_agreement_with_everybody_else(maria, cast, pool):
    comparison = make_comparison(make_prompt(pool, "One"), ["a", "b", "c"], overlap=3)
    make_ranking(comparison, cast["alice"], [1, 2, 3])
    make_ranking(comparison, cast["bob"], [1, 2, 3])  # with Alice: 1
    make_ranking(comparison, cast["maria"], [3, 2, 1])  # with either: -1
    response = maria.get(reverse("people"))
    assert person_of(response, "alice").agreement == (0.0, 2)
    assert person_of(response, "maria").agreement == (-1.0, 2)


def test_it_leaves_gold_out_of_agreement(maria, cast, pool):
    gold = make_comparison(make_prompt(pool, "Gold"), ["a", "b"], kind="gold", gold_ranks={}, overlap=9)
    make_ranking(gold, cast["alice"], [1, 2])
    make_ranking(gold, cast["bob"], [1, 2])
    assert person_of(maria.get(reverse("people")), "alice").agreement.pairs == 0


def test_it_changes_a_role(maria, cast):
    maria.post(reverse("person_role", args=[cast["bob"].pk]), {"role": "researcher"})
    assert roles_of(User.objects.get(pk=cast["bob"].pk)) == {"researcher"}
    assert AuditEvent.objects.get(action="change.role").detail == {"before": ["annotator"], "after": "researcher"}


@pytest.mark.parametrize(
    ("name", "data"), [("person_role", {"role": "annotator"}), ("person_deactivate", {}), ("person_withdraw", {})]
)
def test_it_keeps_the_last_manager(maria, cast, name, data):
    response = maria.post(reverse(name, args=[cast["maria"].pk]), data, follow=True)
    assert "This is the only manager." in response.text
    user = User.objects.get(pk=cast["maria"].pk)
    assert (user.is_active, roles_of(user)) == (True, {"manager"})


def test_it_closes_an_account_at_once_and_gives_its_lease_back(maria, cast, signed_in, pool):
    comparison = make_comparison(make_prompt(pool, "One"), ["a", "b"])
    lease_next_comparison(annotator=cast["alice"])
    alice = signed_in(cast["alice"])
    maria.post(reverse("person_deactivate", args=[cast["alice"].pk]))
    assert alice.get(reverse("home")).url.startswith(reverse("account_login"))
    comparison.refresh_from_db()
    assert comparison.taken == 0
    maria.post(reverse("person_reactivate", args=[cast["alice"].pk]))
    assert User.objects.get(pk=cast["alice"].pk).is_active


def test_it_withdraws_answers_and_lists_the_checkpoints_they_touched(maria, cast, policy, pool):
    for person in ("alice", "bob"):
        make_ranking(make_comparison(make_prompt(pool, person), ["a", "b"]), cast[person], [1, 2])
    trained = PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving)
    TrainingRun.objects.create(
        policy=policy, status="published", snapshot=freeze_preferences(policy=policy), candidate=trained
    )
    address = reverse("person", args=[cast["alice"].pk])
    maria.post(reverse("person_withdraw", args=[cast["alice"].pk]))
    response = maria.get(address)
    assert trained.name in response.text
    assert freeze_preferences(policy=policy).size == 1
    assert AuditEvent.objects.filter(action="withdraw.person", actor=cast["maria"]).exists()


def test_who_withdrew_stays_out(maria, cast):
    """A new answer would not count, and the page says that it cannot be undone."""
    maria.post(reverse("person_withdraw", args=[cast["alice"].pk]))
    address = reverse("person_reactivate", args=[cast["alice"].pk])
    page = maria.get(reverse("person", args=[cast["alice"].pk])).text
    assert "the account stays closed" in page
    assert address not in page
    assert reverse("person_role", args=[cast["alice"].pk]) not in page
    assert "the account stays closed" in maria.post(address, follow=True).text
    assert not User.objects.get(pk=cast["alice"].pk).is_active


def test_it_shows_the_audit_log_by_person_and_action(maria, cast):
    maria.post(reverse("people"), {"email": "emil@example.org", "role": "annotator"})
    maria.post(reverse("person_role", args=[cast["bob"].pk]), {"role": "researcher"})
    page = reverse("audit")
    assert len(maria.get(page).context["page"]) == 2
    assert [event.action for event in maria.get(page, {"action": "change.role"}).context["page"]] == ["change.role"]
    assert not maria.get(page, {"actor": cast["bob"].pk}).context["page"].object_list


@pytest.mark.parametrize("query", [{"actor": "²"}, {"actor": "9" * 40}, {"action": "\0"}, {"page": "last one"}])
def test_it_shows_the_audit_log_whatever_the_address_says(maria, query):
    assert maria.get(reverse("audit"), query).status_code == 200
