"""The way in: invitation, sign-in, language, and the page that sends everybody to their work."""

import re
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from annotate.accounts import CHOSEN_AT_THE_DOOR
from annotate.models import Invitation, User
from annotate.services.invitations import invite_person, make_account
from tests.worlds import make_policy, make_pool

pytestmark = pytest.mark.django_db


def test_it_makes_the_invited_account_signs_it_in_and_sends_it_to_work(client):
    link = reverse("invitation", args=[invite_person(email="alice@example.org", role="annotator").token])
    assert "alice@example.org" in client.get(link).text
    response = client.post(link, {"password": "a rather long sentence"}, follow=True)
    assert response.request["PATH_INFO"] == reverse("rank")
    alice = User.objects.get(email="alice@example.org")
    assert alice.check_password("a rather long sentence")
    assert [group.name for group in alice.groups.all()] == ["annotator"]


@pytest.mark.parametrize("typed", ["Emil@Example.ORG", "emil@example.org"])
def test_whoever_was_invited_with_capitals_signs_in_again_however_the_address_is_written(client, typed):
    link = reverse("invitation", args=[invite_person(email=" Emil@Example.org", role="annotator").token])
    client.post(link, {"password": "a rather long sentence"})
    client.post(reverse("account_logout"))
    assert "_auth_user_id" not in client.session
    response = client.post(reverse("account_login"), {"login": typed, "password": "a rather long sentence"})
    assert (response.status_code, response.url) == (302, reverse("home"))
    assert client.get("/rank/").status_code == 200


def test_the_first_manager_signs_in_whatever_the_case_of_the_address(client, settings):
    first = {"admin_email": "Admin@Example.org", "admin_password": "a rather long sentence"}
    settings.ENVIRONMENT = replace(settings.ENVIRONMENT, **first)
    call_command("bootstrap", empty=True, verbosity=0, stdout=StringIO())
    client.post(reverse("account_login"), {"login": "Admin@Example.org", "password": "a rather long sentence"})
    assert client.get(reverse("people")).status_code == 200


def invitation_page(client, role: str = "annotator") -> str:
    return client.get(reverse("invitation", args=[invite_person(email="dora@example.org", role=role).token])).text


def test_it_tells_an_invited_annotator_what_will_be_done_and_for_what(client):
    page = invitation_page(client)
    assert "You will read completions that a language model wrote for the same prompt and rank them" in page
    assert "What you rank trains the model." in page
    assert "No pool is open yet." in page


def test_it_names_the_pools_that_await_with_their_languages_and_no_other(client):
    policy = make_policy()
    make_pool(policy, "Letters", language="zh-hans", description="Kind <letters>.")
    make_pool(policy, "Sums", language="xx-new")
    make_pool(policy, "For members", members_only=True)
    make_pool(policy, "Asleep", status="paused")
    page = invitation_page(client)
    assert re.findall(r"<strong [^>]*>(.*?)</strong> · ([^<\n]+?)(?:<br>|</li>)", page) == [
        ("Letters", "Simplified Chinese"),
        ("Sums", "xx-new"),
    ]
    assert "Kind &lt;letters&gt;." in page
    assert "No pool is open yet." not in page
    client.cookies["django_language"] = "zh-hans"
    assert "· 简体中文" in invitation_page(client)


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ("manager", "You will make pools of prompts, invite people"),
        ("researcher", "training runs, checkpoints, preference data."),
    ],
)
def test_other_roles_are_told_of_their_own_work(client, role, sentence):
    make_pool(make_policy(), "Letters")
    page = invitation_page(client, role)
    assert sentence in page
    assert "Letters" not in page


@pytest.mark.parametrize("password", ["short", "password123456"[:10], "alice@example.org"])
def test_it_refuses_a_weak_password_and_keeps_the_invitation_open(client, password):
    invitation = invite_person(email="alice@example.org", role="annotator")
    response = client.post(reverse("invitation", args=[invitation.token]), {"password": password})
    assert response.status_code == 200
    assert "errorlist" in response.text
    assert Invitation.objects.open().count() == 1


def test_it_closes_an_invitation_that_was_used_or_is_too_old(client):
    invitation = invite_person(email="alice@example.org", role="annotator")
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    response = client.post(reverse("invitation", args=[invitation.token]), {"password": "a rather long sentence"})
    assert response.status_code == 410
    assert not User.objects.filter(email="alice@example.org").exists()


def test_a_used_invitation_leads_whoever_is_signed_in_to_work(client):
    link = reverse("invitation", args=[invite_person(email="alice@example.org", role="annotator").token])
    client.post(link, {"password": "a rather long sentence"})
    assert client.get(link, follow=True).request["PATH_INFO"] == reverse("rank")
    client.logout()
    assert client.get(link).status_code == 410


def test_a_weak_password_is_refused_in_chinese(client):
    link = reverse("invitation", args=[invite_person(email="alice@example.org", role="annotator").token])
    client.cookies["django_language"] = "zh-hans"
    assert "密码太短，至少要有 10 个字符。" in client.post(link, {"password": "short"}).text
    assert "密码与邮箱地址太相似。" in client.post(link, {"password": "alice@example.org"}).text


def test_it_says_nothing_of_an_invitation_that_never_was(client):
    assert client.get(reverse("invitation", args=["nonsense"])).status_code == 410


def test_it_sends_an_annotator_to_the_comparisons_and_a_stranger_to_the_door(client):
    assert client.get("/").url.startswith(reverse("account_login"))
    client.force_login(make_account(email="alice@example.org", role="annotator"))
    assert client.get("/").url == reverse("rank")


def sign_in(client, password):
    return client.post(reverse("account_login"), {"login": "alice@example.org", "password": password})


def test_a_whole_classroom_behind_one_address_signs_in_within_a_minute(client):
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    for _person in range(40):
        client.logout()
        assert sign_in(client, "a rather long sentence").status_code == 302


def test_behind_a_proxy_each_person_has_an_address_of_their_own(client, settings):
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    settings.ACCOUNT_RATE_LIMITS = {"login": "1/m/ip"}
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    answers = []
    for address in ("203.0.113.1", "203.0.113.1", "203.0.113.2"):
        client.logout()
        form = {"login": "alice@example.org", "password": "a rather long sentence"}
        answers.append(client.post(reverse("account_login"), form, headers={"x-forwarded-for": address}).status_code)
    assert answers == [302, 429, 302]


def test_whoever_guesses_a_password_five_times_waits(client):
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    for _guess in range(5):
        assert "errorlist" in sign_in(client, "a wrong sentence").text
    page = sign_in(client, "a rather long sentence")
    assert "_auth_user_id" not in client.session
    assert "Too many failed login attempts" in page.text


def test_it_keeps_the_language_in_the_browser_and_in_the_account(client):
    alice = make_account(email="alice@example.org", role="annotator")
    client.force_login(alice)
    response = client.post(reverse("language"), {"language": "zh-hans", "next": "/account/login/"})
    assert response.cookies["django_language"].value == "zh-hans"
    alice.refresh_from_db()
    assert alice.language == "zh-hans"


def test_it_speaks_the_accounts_language_after_signing_in_on_another_machine(client):
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    User.objects.update(language="zh-hans")
    response = client.post(
        reverse("account_login"), {"login": "alice@example.org", "password": "a rather long sentence"}
    )
    assert response.status_code == 302
    assert response.cookies["django_language"].value == "zh-hans"


@pytest.mark.parametrize("before", ["", "en"])
def test_a_language_chosen_at_the_door_stays_after_signing_in_and_is_the_accounts(client, before):
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    User.objects.update(language=before)
    client.post(reverse("language"), {"language": "zh-hans", "next": "/account/login/"})
    assert sign_in(client, "a rather long sentence").status_code == 302
    assert client.cookies["django_language"].value == "zh-hans"
    assert User.objects.get().language == "zh-hans"
    client.post(reverse("account_logout"))
    client.cookies.clear()
    User.objects.update(language="en")  # meanwhile, on another machine
    assert sign_in(client, "a rather long sentence").cookies["django_language"].value == "en"


def test_a_language_chosen_on_the_invitation_is_the_accounts(client):
    link = reverse("invitation", args=[invite_person(email="alice@example.org", role="annotator").token])
    client.post(reverse("language"), {"language": "zh-hans", "next": link})
    client.post(link, {"password": "a rather long sentence"})
    assert User.objects.get(email="alice@example.org").language == "zh-hans"


@pytest.mark.parametrize("language", ["", "xx", "zh-hans' --", "fr"])
def test_it_keeps_no_language_that_it_does_not_speak(client, language):
    alice = make_account(email="alice@example.org", role="annotator")
    for person in (None, alice):
        if person:
            client.force_login(person)
        client.post(reverse("language"), {"language": language, "next": "/account/login/"})
        assert CHOSEN_AT_THE_DOOR not in client.session
    alice.refresh_from_db()
    assert alice.language == ""


@pytest.mark.parametrize("path", ["email/", "confirm-email/", "reauthenticate/", "login/code/", ""])
def test_nobody_changes_an_address_or_comes_in_by_a_way_that_no_page_leads_to(client, path):
    alice = make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    client.force_login(alice)
    form = {"email": "mallory@example.org", "action_add": "", "action_primary": ""}
    for response in (client.get(f"/account/{path}"), client.post(f"/account/{path}", form)):
        assert response.status_code == 404


def test_a_forgotten_password_is_made_anew_by_the_link_in_the_mail(client, mailoutbox):
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    asked = client.post(reverse("account_reset_password"), {"email": "alice@example.org"}, follow=True)
    assert asked.request["PATH_INFO"] == reverse("account_reset_password_done")
    [link] = re.findall(r"http://testserver(/\S+)", mailoutbox[0].body)
    form = client.get(link, follow=True)
    assert form.redirect_chain and form.status_code == 200
    sentences = dict.fromkeys(("password1", "password2"), "another long sentence")
    done = client.post(form.request["PATH_INFO"], sentences, follow=True)
    assert done.request["PATH_INFO"] == reverse("account_reset_password_from_key_done")
    assert sign_in(client, "another long sentence").status_code == 302
    assert "Send a new one" in client.get(link).text  # it works once


def test_a_stranger_who_asks_for_a_new_password_is_told_by_mail_and_whoever_would_sign_up_on_the_page(
    client, mailoutbox
):
    client.post(reverse("account_reset_password"), {"email": "stranger@example.org"})
    assert mailoutbox[0].to == ["stranger@example.org"]
    assert "Accounts are made by invitation." in client.get(reverse("account_signup")).text


def test_whoever_is_signed_in_changes_the_password(client):
    make_account(email="alice@example.org", role="annotator", password="a rather long sentence")
    sign_in(client, "a rather long sentence")
    assert "placeholder" not in client.get(reverse("account_change_password")).text  # it would say the label again
    sentences = dict.fromkeys(("password1", "password2"), "another long sentence")
    client.post(reverse("account_change_password"), {"oldpassword": "a rather long sentence", **sentences})
    client.post(reverse("account_logout"))
    assert sign_in(client, "another long sentence").status_code == 302


def test_it_asks_for_the_address_and_the_password_and_links_a_forgotten_one_once(client):
    text = client.get(reverse("account_login")).text
    assert text.count(reverse("account_reset_password")) == 1
    assert ">E-mail address</label>" in text
    assert "placeholder" not in text
