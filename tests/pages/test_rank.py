"""The ranking page as the server gives it: the lease, the plain form, what is shown and what never is."""

import re
from collections import Counter

import pytest
from django.db import connection
from django.urls import reverse

from annotate.models import Assignment, Comparison, PoolMember, PromptPool, Ranking
from annotate.services.assignments import lease_next_comparison
from annotate.services.gold import make_gold
from tests.worlds import make_comparison, make_policy, make_pool, make_prompt, make_ranking

NEXT = "/rank/next/"


@pytest.fixture
def alice(cast, signed_in):
    return signed_in(cast["alice"])


@pytest.fixture
def pairs():
    pool = make_pool(make_policy(), "Pairs", k=2)
    for n in range(3):
        make_comparison(make_prompt(pool, f"prompt {n}"), [f"left {n}", f"right {n}"])
    return pool


def leased_by(name: str) -> Assignment:
    return Assignment.objects.get(annotator__username=name, status="leased")


def without_names(page: str) -> str:
    """A page without what differs from one comparison to the next: numbers, tokens, and which text stands where."""
    return re.sub(r"[\w-]{16,}|\d+|left|right", "#", page)


def plain_answer(assignment: Assignment, **fields) -> dict:
    return {"assignment": assignment.pk, "token": assignment.token, "key": "one", **fields}


def test_it_leases_a_comparison_and_shows_the_same_one_after_a_reload(alice, pairs):
    first = alice.get("/rank/").context["assignment"]
    assert alice.get("/rank/").context["assignment"] == first
    assert Assignment.objects.count() == 1


def test_it_gives_a_browser_that_holds_one_another(alice, pairs):
    first = alice.get("/rank/").context["assignment"]
    second = alice.post(NEXT, {"holding": [first.pk]}).context["assignment"]
    assert second != first
    assert alice.post(NEXT, {"holding": [first.pk]}).context["assignment"] == second  # lost on the way, back again


def nothing_for(client) -> list[str]:
    """The page on which there is nothing to rank, and what its script fetches in that case."""
    pages = [client.get("/rank/").text, client.post(NEXT).text]
    assert all("data-nothing" in page for page in pages)
    return pages


@pytest.mark.parametrize(
    ("language", "page_language", "told"),
    [
        ("en", "en", None),
        ("en-gb", "en", None),
        ("zh-hant", "zh-hans", None),
        ("fr", "en", "No pool in English is open to you: the texts are in French."),
        ("en", "zh-hans", "目前没有向你开放的中文题库，题目和回答的语言是英语。"),
    ],
)
def test_it_says_in_which_language_the_texts_are_where_none_is_in_that_of_the_page(
    alice, language, page_language, told
):
    """Where there is nothing, and until the first answer."""
    alice.cookies["django_language"] = page_language
    pool = make_pool(make_policy(), "Letters", language=language)
    make_pool(pool.policy, "For members", language=page_language, members_only=True)
    pages = nothing_for(alice)
    make_comparison(make_prompt(pool, "p"), ["a", "b"])
    pages.append(alice.get("/rank/").text)
    for page in pages:
        if told:
            assert told in page
        else:
            assert "the texts are in" not in page
            assert "目前没有向你开放的中文题库" not in page


def test_languages_are_listed_in_that_of_the_page_and_no_longer_said_after_the_first_answer(alice, cast):
    policy = make_policy()
    pool, _other = make_pool(policy, "Lettres", language="fr"), make_pool(policy, "Briefe", language="de")
    make_comparison(make_prompt(pool, "p"), ["a", "b"])
    assert "the texts are in German, French." in alice.get("/rank/").text  # by their tags: de, fr
    alice.cookies["django_language"] = "zh-hans"
    assert "题目和回答的语言是德语、法语。" in alice.get("/rank/").text
    alice.cookies["django_language"] = "en"
    make_ranking(make_comparison(make_prompt(pool, "q"), ["a", "b"]), cast["alice"], [1, 2])
    assert "the texts are in" not in alice.get("/rank/").text


def test_what_a_script_fetches_has_no_part_for_a_page_without_one(alice, pairs):
    page, fetched = alice.get("/rank/").text, alice.post(NEXT, {"holding": []}).text
    for part in ("<noscript>", "csrfmiddlewaretoken", 'name="token"'):
        assert part in page
        assert part not in fetched


def test_it_shows_the_texts_in_the_stored_order_and_nothing_of_who_wrote_them(alice, pairs):
    page = alice.get("/rank/")
    ids = [int(found) for found in re.findall(r'class="completion" data-id="(\d+)"', page.text)]
    assert ids == leased_by("alice").order
    for secret in ("tiny-0", "checkpoint", "score", "seed"):
        assert secret not in page.text


def test_each_annotator_gets_an_order_of_their_own(cast):
    """Sixty comparisons of four, for two people: no completion has a favourite place, and no order is the other's."""
    pool = make_pool(make_policy(), "Fours", k=4, overlap=2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.25)")
    for n in range(60):
        make_comparison(make_prompt(pool, f"prompt {n}"), ["a", "b", "c", "d"])
        for person in (cast["alice"], cast["bob"]):
            lease_next_comparison(annotator=person)
    places, orders = Counter(), {}
    for assignment in Assignment.objects.select_related("comparison"):
        by_id = sorted(assignment.order)
        assert by_id == list(assignment.comparison.completions.values_list("id", flat=True))
        order = tuple(by_id.index(completion) for completion in assignment.order)
        places.update((place, completion) for place, completion in enumerate(order))
        orders.setdefault(assignment.comparison_id, []).append(order)
    # 30 of 120 in each of the sixteen; four standard deviations are 19. By chance 2.5 pairs of orders are the same.
    assert all(11 <= places[place, completion] <= 49 for place in range(4) for completion in range(4))
    assert sum(one == other for one, other in orders.values()) <= 9


def test_it_takes_a_plain_forms_pair(alice, pairs):
    alice.get("/rank/")
    assignment = leased_by("alice")
    assert alice.post("/rank/", plain_answer(assignment, verdict="second")).url == "/rank/"
    first, second = map(str, assignment.order)
    assert Ranking.objects.get().ranks == {first: 2, second: 1}


def test_it_stores_a_plain_form_that_is_sent_twice_once(alice, pairs):
    alice.get("/rank/")
    answer = plain_answer(leased_by("alice"), verdict="first")
    alice.post("/rank/", answer)
    alice.post("/rank/", answer)
    assert Ranking.objects.count() == 1


def test_it_reads_everything_a_plain_form_can_say(alice):
    pool = make_pool(make_policy(), "Rich", k=3, axes=["helpful"], rationale_chips=["clearer"], asks_rationale=True)
    make_comparison(make_prompt(pool, "p"), ["a", "b", "c"])
    alice.get("/rank/")
    assignment = leased_by("alice")
    a, b, c = assignment.order
    alice.post(
        "/rank/",
        plain_answer(
            assignment,
            **{
                f"rank-{a}": 1,
                f"rank-{b}": 3,
                f"rank-{c}": 3,
                f"axis-{a}-helpful": 5,
            },
            **{f"flag-{b}": ["unsafe", "untrue"]},
            chip="clearer",
            rationale=" because ",
            better_answer="this",
        ),
    )
    ranking = Ranking.objects.get()
    assert ranking.ranks == {str(a): 1, str(b): 2, str(c): 2}
    assert ranking.flags == {str(b): ["unsafe", "untrue"]}
    assert ranking.axes == {str(a): {"helpful": 5}}
    assert (ranking.chips, ranking.rationale) == (["clearer"], "because")
    assert ranking.demonstration.text == "this"


@pytest.mark.parametrize("fields", [{}, {"verdict": "nonsense"}, {"strength": "x"}])
def test_it_refuses_a_plain_form_that_is_no_complete_ranking(alice, pairs, fields):
    alice.get("/rank/")
    page = alice.post("/rank/", plain_answer(leased_by("alice"), **fields), follow=True)
    assert "Every completion needs a rank." in page.text
    assert not Ranking.objects.exists()


@pytest.fixture
def rich():
    """Alice may say everything there is to say of four completions."""
    asked = {"flags": ["unsafe"], "axes": ["helpful"], "rationale_chips": ["clearer"], "strength_scale": 3}
    pool = make_pool(make_policy(), "Rich", k=4, asks_rationale=True, asks_better_answer=True, **asked)
    make_comparison(make_prompt(pool, "p"), ["a", "b", "c", "d"])
    return pool


def said_of(assignment: Assignment) -> dict:
    """A form in which the fourth rank was forgotten."""
    ranks = {f"rank-{key}": rank for rank, key in enumerate(assignment.order[:3], start=1)}
    first = assignment.order[0]
    more = {f"flag-{first}": "unsafe", f"axis-{first}-helpful": 4, "chip": "clearer", "strength": 2}
    return ranks | more | {"rationale": "two\r\nlines", "better_answer": "better, " * 200}


def filled_in(page: str) -> Counter:
    """Name and value of every field that a page of the form has filled in."""
    boxes = re.findall(r'<input type="?\w+"? name="?([\w-]+)"? value="?(\w+)"? checked>', page)
    return Counter(boxes + re.findall(r'<textarea name="(\w+)"[^>]*>([^<]+)<', page))


def test_a_plain_form_that_is_refused_comes_again_as_it_was_filled_in(alice, rich):
    alice.get("/rank/")
    assignment = leased_by("alice")
    said = said_of(assignment)
    page = alice.post("/rank/", plain_answer(assignment, **said))
    assert page.status_code == 422
    assert "Every completion needs a rank." in page.text
    expected = {name: str(value).replace("\r\n", "\n") for name, value in said.items()}
    assert filled_in(page.text) == Counter(expected.items())
    [key] = re.findall(r'name="key" value="(\w+)"', page.text)
    said[f"rank-{assignment.order[3]}"] = 4
    assert alice.post("/rank/", plain_answer(assignment, **said) | {"key": key}).url == "/rank/"
    assert Ranking.objects.get().demonstration.text == ("better, " * 200).strip()


@pytest.mark.parametrize(
    ("ending", "sentence"), [("expired", "the time is over"), ("answered", "The first answer stands.")]
)
def test_what_was_written_for_a_lease_that_is_gone_can_be_copied(alice, rich, ending, sentence):
    alice.get("/rank/")
    assignment = leased_by("alice")
    Assignment.objects.update(status=ending)
    page = alice.post("/rank/", plain_answer(assignment, **said_of(assignment)))
    assert page.status_code == 409
    assert sentence in page.text
    [words] = re.findall(r'<textarea readonly rows="6" dir="auto">\n(.*?)</textarea>', page.text, re.DOTALL)
    chosen = "A Flags unsafe\nA helpful 4\nclearer\nHow much better? better"
    assert words == f"two\nlines\n\n{'better, ' * 200}\n\nA &gt; B &gt; C\n\n{chosen}"


def test_why_a_comparison_was_to_be_left_can_be_copied_too(alice, rich):
    alice.get("/rank/")
    assignment = leased_by("alice")
    Assignment.objects.update(status="expired")
    page = alice.post("/rank/", plain_answer(assignment, leave="skip: other", leave_words="two in one"))
    assert "\nskip: other · two in one</textarea>" in page.text


@pytest.mark.parametrize(
    ("leave", "words", "stored"),
    [
        ("skip: language", "", "skip: language"),
        ("not rankable: no_sense", "", "not rankable: no_sense"),
        ("not rankable: other", " two prompts in one ", "not rankable: other · two prompts in one"),
    ],
)
def test_a_plain_form_leaves_a_comparison_with_the_reasons_of_the_dialogs(alice, pairs, leave, words, stored):
    page = alice.get("/rank/?in_full=1").text
    plain = re.search(r'<select name="leave">.*?</select>', page, re.DOTALL)[0]
    assert set(re.findall(r'value="([^"]+)"', plain)) == set(re.findall(r'data-reason="([^"]+)"', page))
    assert f'value="{leave}"' in plain
    assignment = leased_by("alice")
    alice.post("/rank/", plain_answer(assignment, leave=leave, leave_words=words))
    assignment.refresh_from_db()
    assert (assignment.status, assignment.skip_reason) == ("skipped", stored)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [({"leave_words": "two prompts in one"}, "skip: other · two prompts in one"), ({"leave_it": "1"}, "skip: other")],
)
def test_a_comparison_that_is_left_without_a_reason_is_not_answered(alice, pairs, sent, stored):
    alice.get("/rank/")
    assignment = leased_by("alice")
    # Enter in a text field presses the first button of the form, which is a verdict.
    alice.post("/rank/", plain_answer(assignment, leave="", verdict="first", **sent))
    assignment.refresh_from_db()
    assert (assignment.status, assignment.skip_reason) == ("skipped", stored)
    assert not Ranking.objects.exists()


def test_a_training_comparison_offers_no_skip_and_takes_none(alice, pairs):
    Comparison.objects.update(kind="training", gold_ranks={}, overlap=9)
    PromptPool.objects.update(training_count=3)
    page = alice.get("/rank/?in_full=1").text
    assert 'data-act="skip"' not in page
    assert 'name="leave"' not in page
    page = alice.post("/rank/", plain_answer(leased_by("alice"), leave="skip: language"))
    assert page.status_code == 422
    assert "A training comparison cannot be skipped." in page.text
    assert leased_by("alice")


WRITTEN = "The next comparisons are being written. They appear here by themselves."
NO_POOL = "No pool is open to you. As soon as one is, its comparisons appear here by themselves."


def said_where_nothing_is(browser, **chosen) -> list[str]:
    """The reasons, which the whole page and what its script fetches give alike."""
    page, fetched = browser.get("/rank/", chosen).text, browser.post(NEXT, chosen).text
    [reasons] = re.findall(r"<div data-why>(.*?)</div>", fetched)
    assert f"<div data-why>{reasons}</div>" in page
    return re.findall(r"<p>(.*?)</p>", reasons)


@pytest.fixture
def empty(cast):
    """A pool with a prompt and nothing written yet."""
    pool = make_pool(make_policy(), "Letters", k=2)
    make_prompt(pool, "prompt")
    return pool


@pytest.mark.parametrize(
    ("fields", "sentences"),
    [
        ({}, [WRITTEN]),
        ({"members_only": True}, [NO_POOL]),
        (
            {"status": "paused", "status_reason": "We go on on Monday."},
            [NO_POOL, "“Letters” is paused: We go on on Monday."],
        ),
        ({"status": "paused"}, [NO_POOL, "“Letters” is paused."]),
        (  # of an open pool the reason, with paths of the machine, is for its manager
            {"status_reason": "No comparisons can be written: there is no folder /srv/models/gone"},
            ["For “Letters” no comparisons can be written at the moment. Its manager sees why."],
        ),
        (
            {"status": "checking"},
            [NO_POOL, "“Letters” is not open yet: it is being checked whether the model writes its language."],
        ),
    ],
)
def test_where_nothing_is_lent_it_says_why(alice, empty, fields, sentences):
    PromptPool.objects.update(**fields)
    assert said_where_nothing_is(alice) == sentences


def test_a_pool_without_prompts_is_not_written_for(alice, empty):
    empty.prompts.update(retired_at=empty.created_at)
    assert said_where_nothing_is(alice) == [NO_POOL, "“Letters” has no prompts at the moment."]


def test_it_says_of_a_chosen_pool_that_it_is_paused_and_leads_to_the_others(alice, empty):
    PromptPool.objects.update(status="paused", status_reason="We go on on Monday.")
    other = make_pool(empty.policy, "Other", members_only=True)
    assert said_where_nothing_is(alice, pool=empty.pk) == ["“Letters” is paused: We go on on Monday."]
    assert said_where_nothing_is(alice, pool=other.pk) == ["This pool is not open to you."]
    assert "All pools" not in alice.post(NEXT, {"pool": empty.pk}).text
    other.members_only = False
    other.save()
    assert '<a class="button primary" href="/rank/">All pools</a>' in alice.post(NEXT, {"pool": empty.pk}).text


def test_it_speaks_of_no_closed_pool_while_another_is_written_for(alice, empty):
    make_pool(empty.policy, "Old", status="paused", status_reason="It is done.")
    assert said_where_nothing_is(alice) == [WRITTEN]


@pytest.mark.parametrize(
    ("seen", "right", "sentence"),
    [
        (None, 0, "You are not through the training of “Letters”, and it has nothing more for you."),
        (1, 1, "You are not through the training of “Letters”, and it has nothing more for you."),
        (2, 2, "You are not through the training of “Letters”, and it has nothing more for you."),  # it asked for more
        (
            2,
            1,
            "You did not pass the training of “Letters”: 1 of 2 answers were right, and it has nothing more for you.",
        ),
    ],
)
def test_it_says_that_the_training_was_not_passed(alice, cast, empty, seen, right, sentence):
    PromptPool.objects.update(training_count=2)
    if seen:
        PoolMember.objects.create(pool=empty, user=cast["alice"], training_seen=seen, training_right=right)
    assert said_where_nothing_is(alice) == [f"{sentence} A manager can let you through."]
    PoolMember.objects.update_or_create(pool=empty, user=cast["alice"], defaults={"qualified_at": empty.created_at})
    assert said_where_nothing_is(alice) == [WRITTEN]


def test_training_that_is_open_in_another_tab_is_not_failed(alice, empty):
    PromptPool.objects.update(training_count=1)
    make_comparison(make_prompt(empty, "p"), ["a", "b"], kind="training", gold_ranks={}, overlap=9)
    alice.get("/rank/")
    fetched = alice.post(NEXT, {"holding": [leased_by("alice").pk]}).text
    assert WRITTEN in fetched


def test_it_is_nobody_elses_lease(alice, pairs, cast, signed_in):
    alice.get("/rank/")
    response = signed_in(cast["bob"]).post("/rank/", plain_answer(leased_by("alice"), verdict="first"))
    assert response.status_code == 404
    assert not Ranking.objects.exists()


def test_gold_looks_like_any_other(alice, pairs):
    source = pairs.comparisons.first()
    ranks = dict.fromkeys(source.completions.values_list("id", flat=True), 1)
    fresh = without_names(alice.get("/rank/").text)
    make_gold(comparison=source, kind="gold", ranks=ranks, explanation="x", by=None)
    Comparison.objects.filter(kind="fresh").update(is_withdrawn=True)
    Assignment.objects.all().delete()
    pairs.gold_share = 0.5
    pairs.save()
    for _ in range(50):
        page = alice.get("/rank/")
        if page.context["assignment"]:
            break
    assert page.context["assignment"].comparison.kind == "gold"
    assert without_names(page.text) == fresh


def test_feedback_is_for_answered_training_comparisons_alone(alice, pairs, cast):
    given = make_ranking(pairs.comparisons.first(), cast["alice"], [1, 2])
    assert alice.get(reverse("rank_feedback", args=[given.assignment_id])).status_code == 404
    Comparison.objects.update(kind="training", gold_ranks=given.ranks, gold_explanation="**so**")
    page = alice.get(reverse("rank_feedback", args=[given.assignment_id])).text
    assert "Well judged" in page
    assert "<strong>so</strong>" in page


PASSED = "You have passed the training. What is not marked as training counts from now on."


@pytest.fixture
def training(pairs):
    """Three training comparisons, of which two are asked; the right answer is a tie."""
    for comparison in pairs.comparisons.all():
        ranks = dict.fromkeys(map(str, comparison.completions.values_list("id", flat=True)), 1)
        Comparison.objects.filter(pk=comparison.pk).update(kind="training", gold_ranks=ranks, overlap=9)
    PromptPool.objects.update(training_count=2, training_pass_share=0.5)
    return pairs


def test_the_sentence_on_passing_holds_for_what_was_fetched_ahead_of_it_too(alice, training):
    """Training goes on with what the page had by then, and what was passed stays passed."""
    held = []
    for _n in range(3):
        held.append(alice.post(NEXT, {"holding": [each.pk for each in held]}).context["assignment"])
    pages = []
    for n, assignment in enumerate(held):
        pages.append(alice.post("/rank/", plain_answer(assignment, verdict="tie", key=str(n)), follow=True).text)
    assert [PASSED in page for page in pages] == [False, True, True]
    assert not Ranking.objects.filter(counts=True).exists()


def test_it_says_how_many_were_right_and_how_many_must_be(alice, training):
    said = []
    for n in range(3):
        alice.get("/rank/")
        page = alice.post("/rank/", plain_answer(leased_by("alice"), verdict="first", key=str(n)), follow=True).text
        said.append(re.search(r"Training: (.*?)</p>", page)[1].replace("\N{NO-BREAK SPACE}", " "))
    assert said == [
        "1 of 2 done, 0 right. At least 50 % must be right to pass.",
        "0 of 2 answers were right. At least 50 % must be right to pass.",
        "0 of 3 answers were right. At least 50 % must be right to pass.",
    ]


def test_feedback_says_all_bad_as_it_was_said(alice, training):
    alice.get("/rank/")
    page = alice.post("/rank/", plain_answer(leased_by("alice"), verdict="bad"), follow=True).text
    assert "<dt>Your order, best first</dt><dd>all bad</dd>" in page
    assert "<dt>The right order</dt><dd><strong>A = B</strong></dd>" in page


def test_feedback_leads_back_to_the_pool_that_was_chosen(alice, training):
    address = f"/rank/?pool={training.pk}"
    alice.get(address)
    page = alice.post(address, plain_answer(leased_by("alice"), verdict="tie"), follow=True).text
    assert f'href="{address}">Next</a>' in page


def test_guidelines_are_for_those_who_may_work_in_the_pool(alice, pairs):
    address = reverse("guidelines", args=[pairs.guidelines.pk])
    assert "Be kind." in alice.get(address).text
    pairs.members_only = True
    pairs.save()
    assert alice.get(address).status_code == 404


@pytest.mark.parametrize("address", ["javascript:alert(1)", "", "//x", "data:text/html,x", "ftp://x"])
def test_the_warning_page_knows_web_addresses_alone(alice, address):
    assert alice.get("/leave/", {"to": address}).status_code == 404


def test_the_warning_page_takes_no_link_for_a_models(alice):
    """Guidelines, explanations and prompts, which people write, have links as well."""
    page = alice.get("/leave/", {"to": "https://example.org/"}).text
    assert "<h1>This link leads out of Whetstone</h1>" in page
    assert "A language model may have written it; nobody has checked where it leads." in page


def test_the_warning_page_shows_the_address_and_the_machine_without_disguise(alice):
    page = alice.get("/leave/", {"to": "https://аpple.com/\u202egnp"}).text  # the first letter is Cyrillic
    assert "xn--pple-43d.com" in page
    assert "U+202E" in page


@pytest.mark.django_db(transaction=True)
def test_a_ranking_costs_fifteen_statements(alice, pairs, django_assert_num_queries):
    alice.get("/rank/")
    holding = leased_by("alice")
    with django_assert_num_queries(7):  # session, person, lost lease?, pools, lease, prompt, completions
        alice.post(NEXT, {"holding": [holding.pk]})
    ranks = {str(completion): rank for rank, completion in enumerate(holding.order, start=1)}
    with django_assert_num_queries(8):  # session, person, BEGIN, assignment, pool, ranking, done and counted, COMMIT
        response = alice.post(
            f"/api/v1/assignments/{holding.pk}/ranking/",
            {"token": holding.token, "ranks": ranks},
            content_type="application/json",
            headers={"Idempotency-Key": "one"},
        )
    assert response.status_code == 201
