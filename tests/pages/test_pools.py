"""Pools as managers see and change them."""

import pytest
from django.urls import reverse

from annotate.models import Assignment, AuditEvent, Comparison, PoolMember, PromptPool
from annotate.progress import why_skipped
from annotate.services.assignments import lease_next_comparison
from annotate.services.pools import change_pool, write_guidelines
from tests.worlds import make_comparison, make_pool, make_prompt, make_ranking


def fields(policy, **changes):
    """A filled-in form of a pool, as a browser sends it."""
    return {
        "name": "Verses",
        "description": "",
        "policy": policy.pk,
        "language": "en",
        "k": 3,
        "overlap": 2,
        "buffer_size": 8,
        "lease_minutes": 30,
        "incumbent_share": 0.25,
        "temperature": 0.9,
        "top_p": 1,
        "max_new_tokens": 60,
        "ties_allowed": "on",
        "strength_scale": 0,
        "axes": "helpful\r\nhonest\r\n\r\nhelpful",
        "flags": "unsafe",
        "rationale_chips": "",
        "gold_share": 0,
        "training_count": 0,
        "training_pass_share": 0.7,
        "guidelines": "Be fair.",
    } | changes


def test_it_says_what_to_do_where_there_is_no_pool(maria, policy):
    assert "Make the first pool" in maria.get(reverse("pools")).text


def test_it_makes_a_pool_and_asks_for_prompts_next(maria, policy):
    response = maria.post(reverse("pool_new"), fields(policy))
    pool = PromptPool.objects.get(name="Verses")
    assert response.url == reverse("pool_import", args=[pool.pk])
    assert (pool.k, pool.overlap, pool.axes) == (3, 2, ["helpful", "honest"])
    assert pool.sampling == {"temperature": 0.9, "top_p": 1.0, "max_new_tokens": 60}
    assert pool.guidelines.text == "Be fair."
    assert AuditEvent.objects.filter(action="make.pool", actor__username="maria").exists()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("k", 10, "less than or equal to 9"),
        ("k", 1, "greater than or equal to 2"),
        ("overlap", 0, "greater than or equal to 1"),
        ("temperature", 3, "less than or equal to 2.0"),
        ("top_p", 0, "greater than or equal to 0.01"),
        ("language", "English!", "Write a language tag"),
        ("strength_scale", 1, "One step says nothing"),
        ("gold_share", 0.8, "less than or equal to 0.5"),
        ("buffer_size", 0, "at least one"),
        ("axes", "x" * 41, "at most 40 characters"),
        ("name", "Letters", "There is a pool of this name already."),
    ],
)
def test_it_names_what_is_wrong_at_its_field_and_loses_nothing(maria, pool, field, value, sentence):
    response = maria.post(reverse("pool_new"), fields(pool.policy, **{field: value}))
    assert response.status_code == 200
    assert sentence in " ".join(response.context["form"].errors[field])
    assert list(response.context["form"].errors) == [field]
    assert "Be fair." in response.text
    assert "one field is not right" in response.text
    assert not PromptPool.objects.filter(name="Verses").exists()


def test_it_changes_settings_and_notes_what_was_before(maria, pool):
    maria.post(reverse("pool_edit", args=[pool.pk]), fields(pool.policy, name="Letters", k=5))
    pool.refresh_from_db()
    assert pool.k == 5
    assert AuditEvent.objects.get(action="change.pool").detail["k"] == [4, 5]


def test_it_opens_more_places_where_more_annotators_are_wanted(cast, pool):
    waiting = make_comparison(make_prompt(pool, "One"), ["a", "b"])
    answered = make_comparison(make_prompt(pool, "Two"), ["a", "b"])
    make_ranking(answered, cast["alice"], [1, 2])
    change_pool(pool=pool, by=None, overlap=3)
    assert Comparison.objects.get(pk=waiting.pk).overlap == 3
    assert Comparison.objects.get(pk=answered.pk).overlap == 1


def test_it_measures_agreement_by_kendalls_tau(maria, cast, policy):
    pool = make_pool(policy, overlap=2)
    first = make_comparison(make_prompt(pool, "One"), ["a", "b", "c"])
    make_ranking(first, cast["alice"], [1, 2, 3])
    make_ranking(first, cast["bob"], [1, 3, 2])  # 2 concordant pairs, 1 discordant: tau = 1/3
    second = make_comparison(make_prompt(pool, "Two"), ["a", "b"])
    make_ranking(second, cast["alice"], [1, 2])
    make_ranking(second, cast["bob"], [1, 2])  # tau = 1
    response = maria.get(reverse("pool", args=[pool.pk]))
    assert response.context["agreement"].tau == pytest.approx(2 / 3)
    assert "0.67" in response.text


def test_it_says_why_comparisons_were_skipped(maria, cast, pool):
    """As the page's buttons say it, with the words of whoever skipped; the most frequent first."""
    assert "Why comparisons were skipped" not in maria.get(f"/pools/{pool.pk}/").text
    reasons = ["skip: too_long", "skip: too_long", "not rankable: other · all <b> alike", "a script's own", ""]
    for number, reason in enumerate(reasons):
        ranking = make_ranking(make_comparison(make_prompt(pool, f"p{number}"), ["a", "b"]), cast["alice"], [1, 2])
        assignment = ranking.assignment
        ranking.delete()
        Assignment.objects.filter(pk=assignment.pk).update(status="skipped", skip_reason=reason)
    assert why_skipped(pool)[0] == ("It is too long to judge with care", "", 2)
    assert set(why_skipped(pool)[1:]) == {
        ("Another reason", "all <b> alike", 1),
        ("", "a script's own", 1),
        ("", "", 1),
    }
    page = maria.get(f"/pools/{pool.pk}/").text
    assert "all &lt;b&gt; alike" in page
    assert "none given" in page
    assert "<dt>skipped</dt><dd>5</dd>" in page


def test_it_pauses_with_a_reason_and_resumes(maria, pool):
    maria.post(reverse("pool_pause", args=[pool.pk]), {"reason": "The prompts are being mended."})
    pool.refresh_from_db()
    assert pool.status == "paused"
    assert "The prompts are being mended." in maria.get(reverse("pool", args=[pool.pk])).text
    maria.post(reverse("pool_resume", args=[pool.pk]))
    pool.refresh_from_db()
    assert (pool.status, pool.status_reason) == ("active", "")


def test_it_does_not_pause_without_a_reason(maria, pool):
    maria.post(reverse("pool_pause", args=[pool.pk]), {"reason": " "})
    pool.refresh_from_db()
    assert pool.status == "active"


def test_it_writes_guidelines_as_versions_and_shows_them_rendered(maria, pool):
    page = reverse("pool_guidelines", args=[pool.pk])
    maria.post(page, {"text": "# Be *brief*\r\nand true."})
    assert [version.text for version in pool.guideline_versions.all()] == ["# Be *brief*\nand true.", "Be kind."]
    assert "<em>brief</em>" in maria.get(page).text


def test_it_makes_no_version_of_the_same_text(pool):
    assert write_guidelines(pool=pool, text=" Be kind.\r\n", by=None).version == 1


def test_it_previews_guidelines_without_saving_them_and_without_script(maria, pool):
    page = reverse("pool_guidelines", args=[pool.pk])
    response = maria.post(page, {"text": "**bold** <script>alert(1)</script>"}, headers={"HX-Request": "true"})
    assert "<strong>bold</strong>" in response.text
    assert "<script>" not in response.text
    assert "<html" not in response.text
    assert pool.guideline_versions.count() == 1


def test_it_adds_and_removes_members(maria, cast, pool):
    page = reverse("pool_members", args=[pool.pk])
    maria.post(page, {"person": cast["alice"].pk})
    member = pool.memberships.get()
    assert member.user == cast["alice"]
    maria.post(reverse("pool_member_remove", args=[pool.pk, member.pk]))
    assert not pool.memberships.exists()


def test_it_offers_only_people_who_may_annotate_as_members(maria, cast, pool):
    response = maria.post(reverse("pool_members", args=[pool.pk]), {"person": cast["olaf"].pk})
    assert "person" in response.context["form"].errors
    assert not pool.memberships.exists()


def test_it_lets_somebody_through_who_did_not_pass(maria, cast, pool):
    pool.training_count = 1
    pool.save()
    training = make_comparison(make_prompt(pool, "Train"), ["a", "b"], kind="training", overlap=9)
    fresh = make_comparison(make_prompt(pool, "One"), ["a", "b"])
    make_ranking(training, cast["alice"], [1, 2])
    member = PoolMember.objects.create(pool=pool, user=cast["alice"], training_seen=1)
    assert lease_next_comparison(annotator=cast["alice"]) is None
    address = reverse("pool_member_let_through", args=[pool.pk, member.pk])
    page = reverse("pool_members", args=[pool.pk])
    assert address in maria.get(page).text
    assert "alice@example.org is through the training." in maria.post(address, follow=True).text
    assert address not in maria.get(page).text
    assert lease_next_comparison(annotator=cast["alice"]).comparison_id == fresh.pk
    event = AuditEvent.objects.get(action="let-through.member")
    assert (event.actor, event.detail) == (cast["maria"], {"person": "alice@example.org"})


def test_it_finds_no_member_of_one_pool_under_another(maria, cast, pool, policy):
    other = make_pool(policy, "other")
    maria.post(reverse("pool_members", args=[pool.pk]), {"person": cast["alice"].pk})
    address = reverse("pool_member_remove", args=[other.pk, pool.memberships.get().pk])
    assert maria.post(address).status_code == 404
