"""A pool's prompts: search, retire, import."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from annotate.models import Comparison
from tests.worlds import make_comparison, make_prompt, make_ranking


@pytest.fixture
def page(pool):
    return reverse("pool_import", args=[pool.pk])


def contents(pool):
    return [prompt.messages[-1]["content"] for prompt in pool.prompts.all()]


def test_it_finds_prompts_by_words_tags_and_state(maria, pool):
    make_prompt(pool, "Write about the sea", tags=["poem"])
    make_prompt(pool, "写一首关于海的诗", tags=["poem"])
    make_prompt(pool, "Add two and two", tags=["sums"])
    page = reverse("pool_prompts", args=[pool.pk])

    def found(**query):
        return [str(prompt) for prompt in maria.get(page, query).context["page"]]

    assert found(q="SEA") == ["Write about the sea"]
    assert found(q="海的") == ["写一首关于海的诗"]
    assert found(tag="sums") == ["Add two and two"]
    assert found(q="nothing like it") == []
    assert len(found()) == 3


def test_it_swaps_the_list_alone_for_htmx(maria, pool):
    make_prompt(pool, "Write about the sea")
    response = maria.get(reverse("pool_prompts", args=[pool.pk]), {"q": "sea"}, headers={"HX-Request": "true"})
    assert "Write about the sea" in response.text
    assert "<html" not in response.text


def test_it_pages_through_many_prompts(maria, pool):
    for number in range(51):
        make_prompt(pool, f"Prompt {number}")
    response = maria.get(reverse("pool_prompts", args=[pool.pk]), {"page": 2, "q": "Prompt"})
    assert [str(prompt) for prompt in response.context["page"]] == ["Prompt 50"]
    assert "?q=Prompt&amp;page=1" in response.text


def test_it_retires_a_prompt_with_the_comparisons_nobody_took(maria, cast, pool):
    prompt = make_prompt(pool, "Write about the sea")
    waiting = make_comparison(prompt, ["a", "b"])
    answered = make_comparison(prompt, ["a", "b"])
    make_ranking(answered, cast["alice"], [1, 2])
    maria.post(reverse("pool_prompt_retire", args=[pool.pk, prompt.pk]))
    prompt.refresh_from_db()
    assert prompt.retired_at is not None
    assert list(Comparison.objects.filter(is_withdrawn=True)) == [waiting]
    maria.post(reverse("pool_prompt_restore", args=[pool.pk, prompt.pk]))
    prompt.refresh_from_db()
    assert prompt.retired_at is None


def test_it_imports_pasted_lines(maria, pool, page):
    response = maria.post(page, {"pasted": "One\r\n\r\n  Two  ", "pasted_format": "lines"}, follow=True)
    assert contents(pool) == ["One", "Two"]
    assert "2 prompts were imported." in response.text


def test_it_imports_a_file_by_its_name(maria, pool, page):
    file = SimpleUploadedFile("prompts.csv", b"prompt,tags\nOne,poem\nTwo,\n")
    maria.post(page, {"file": file})
    assert contents(pool) == ["One", "Two"]
    assert pool.prompts.first().tags == ["poem"]


def test_it_imports_nothing_where_a_row_is_bad_and_names_the_row(maria, pool, page):
    pasted = '{"prompt": "One"}\n{"prompt": ""}\nno json'
    response = maria.post(page, {"pasted": pasted, "pasted_format": "jsonl"})
    assert contents(pool) == []
    assert [row.line for row in response.context["report"].bad_rows] == [2, 3]
    assert "no json</textarea>" in response.text


@pytest.mark.parametrize(
    ("data", "field", "sentence"),
    [
        ({"pasted": " "}, "file", "Choose a file, or paste prompts below."),
        ({"file": ("p.jsonl", b"{}"), "pasted": "One"}, "pasted", "not both"),
        ({"file": ("prompts", b"{}")}, "format", "Choose a format."),
        ({"file": ("p.parquet", b"no parquet")}, "file", ""),
    ],
)
def test_it_says_at_the_field_what_is_wrong(maria, pool, page, data, field, sentence):
    data = {name: SimpleUploadedFile(*value) if isinstance(value, tuple) else value for name, value in data.items()}
    response = maria.post(page, data)
    assert sentence in " ".join(response.context["form"].errors[field])
    assert contents(pool) == []


def test_it_leaves_out_what_the_pool_has_already(maria, pool, page):
    make_prompt(pool, "One")
    response = maria.post(page, {"pasted": "One\nTwo", "pasted_format": "lines"}, follow=True)
    assert contents(pool) == ["One", "Two"]
    assert "1 prompt was imported. 1 was there already." in response.text
