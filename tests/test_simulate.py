"""Synthetic annotators against a live site, and the commands that make links and tokens."""

import io

import pytest
from django.core.management import CommandError, call_command
from django.urls import resolve
from rest_framework.authtoken.models import Token

from annotate.models import Comparison, Invitation, PolicyCheckpoint, PoolMember, PromptPool, Ranking, User
from annotate.services.snapshots import freeze_preferences
from tests.worlds import make_comparison, make_person, make_policy, make_pool, make_prompt, make_ranking
from trainer.models import TrainingRun


def said(command, *args, **options):
    out = io.StringIO()
    call_command(command, *args, stdout=out, **options)
    return out.getvalue().strip()


def make_comparisons(count, **fields):
    pool = make_pool(make_policy(), **fields)
    for number in range(count):
        make_comparison(make_prompt(pool, f"Number {number}?"), ["Lovely, great, happy!", "Awful, sad, bad.", "A cup."])
    return pool


@pytest.mark.django_db(transaction=True)
class TestSimulate:
    def test_it_ranks_by_its_hidden_preference(self, live_server):
        make_comparisons(6)
        line = said("simulate", annotators=3, comparisons=6, temperature=0, url=live_server.url)
        assert line.startswith("6 rankings by 3 synthetic annotators")
        rankings = list(Ranking.objects.select_related("assignment__comparison"))
        assert len(rankings) == 6
        for ranking in rankings:
            text = dict(ranking.assignment.comparison.completions.values_list("id", "text"))
            order = sorted(ranking.ranks, key=ranking.ranks.get)
            assert [text[int(pk)] for pk in order] == ["Lovely, great, happy!", "A cup.", "Awful, sad, bad."]

    def test_it_signs_in_again_with_the_same_accounts(self, live_server):
        make_comparisons(4)
        said("simulate", annotators=2, comparisons=2, oracle="random", url=live_server.url)
        said("simulate", annotators=2, comparisons=2, oracle="concise", url=live_server.url)
        assert Ranking.objects.count() == 4
        assert User.objects.count() == 2

    def test_it_says_how_much_better_where_the_pool_asks(self, live_server):
        make_comparisons(2, strength_scale=3, ties_allowed=False)
        said("simulate", annotators=1, comparisons=2, oracle="tests.test_simulate:all_alike", url=live_server.url)
        for ranking in Ranking.objects.all():
            assert (ranking.strength, sorted(ranking.ranks.values())) == (1, [1, 2, 3])

    def test_it_joins_a_pool_for_members_and_no_other(self, live_server):
        make_comparisons(1)
        pool = make_pool(PromptPool.objects.get().policy, "members", members_only=True)
        make_comparison(make_prompt(pool, "x"), ["a", "b"])
        said("simulate", annotators=1, comparisons=1, oracle="random", pool=pool.pk, url=live_server.url)
        assert PoolMember.objects.get().pool == pool
        assert Ranking.objects.get().pool == pool

    def test_it_says_how_far_it_is(self, live_server, monkeypatch):
        monkeypatch.setattr("annotate.management.commands.simulate.SAY_EVERY", 2)
        make_comparisons(5)
        lines = said("simulate", annotators=2, comparisons=5, oracle="random", url=live_server.url).splitlines()
        assert lines[:-1] == ["ranking 2 of 5", "ranking 4 of 5"]

    def test_it_waits_and_then_says_that_there_is_nothing(self, live_server):
        make_comparisons(1)
        with pytest.raises(CommandError, match="nothing to rank for 1 seconds"):
            said("simulate", annotators=2, comparisons=3, oracle="random", url=live_server.url, patience=1)
        assert Comparison.objects.get().answered == 1


def all_alike(prompt, completions):
    return [0.0 for _ in completions]


@pytest.mark.django_db
class TestCommands:
    def test_simulate_says_that_nobody_is_there(self):
        with pytest.raises(CommandError, match="cannot be reached"):
            said("simulate", annotators=1, url="http://127.0.0.1:1", patience=0.1)

    @pytest.mark.parametrize(
        "options", [{"oracle": "wise"}, {"annotators": 0}, {"annotators": 1000}, {"temperature": -1.0}, {"pool": 99}]
    )
    def test_simulate_refuses_a_wrong_option(self, options):
        with pytest.raises(CommandError):
            said("simulate", **options)

    def test_invite_prints_a_link_that_leads_to_the_invitation(self):
        link = said("invite", "new@example.org", "--role", "researcher")
        invitation = Invitation.objects.get()
        assert (invitation.email, invitation.role) == ("new@example.org", "researcher")
        path = "/" + link.split("/", 3)[3]
        assert resolve(path).kwargs == {"token": invitation.token}

    @pytest.mark.parametrize("email", ["nobody", "", "a@b@c.org"])
    def test_invite_refuses_what_is_no_address(self, email):
        with pytest.raises(CommandError, match="not an e-mail address"):
            said("invite", email, "--role", "manager")

    def test_invite_refuses_whoever_is_here(self):
        make_person("alice", "annotator")
        with pytest.raises(CommandError, match="already"):
            said("invite", "alice@example.org")

    def test_token_makes_the_account_once(self):
        first = said("token", "robot", "--role", "annotator")
        assert said("token", "robot", "--role", "annotator") == first
        user = Token.objects.get(key=first).user
        assert not user.has_usable_password()
        assert [group.name for group in user.groups.all()] == ["annotator"]

    def test_token_takes_an_account_that_is_there(self):
        alice = make_person("alice", "annotator")
        assert Token.objects.get(key=said("token", "alice@example.org", "--role", "annotator")).user == alice

    def test_token_gives_nobody_another_role(self):
        make_person("alice", "annotator")
        with pytest.raises(CommandError, match="is no manager"):
            said("token", "alice@example.org", "--role", "manager")

    def test_token_refuses_a_closed_account_and_a_strange_name(self):
        make_person("alice", "annotator", is_active=False)
        with pytest.raises(CommandError, match="closed"):
            said("token", "alice@example.org", "--role", "annotator")
        with pytest.raises(CommandError, match="neither"):
            said("token", "two words", "--role", "annotator")

    def test_withdrawing_lists_the_checkpoints_that_learned_from_somebody(self):
        alice, policy = make_person("alice", "annotator"), make_policy()
        prompt = make_prompt(make_pool(policy), "x")
        make_ranking(make_comparison(prompt, ["a", "b"]), alice, [1, 2])
        candidate = PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving)
        snapshot = freeze_preferences(policy=policy)
        TrainingRun.objects.create(policy=policy, snapshot=snapshot, candidate=candidate, status="published")
        lines = said("withdraw_annotator", alice.pseudonym).splitlines()
        assert lines[0].endswith(": 1")
        assert lines[1].strip().startswith("tiny-1")
        alice.refresh_from_db()
        assert alice.withdrawn_at
        with pytest.raises(CommandError, match="no account"):
            said("withdraw_annotator", "nobody@example.org")
