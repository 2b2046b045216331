import json
from itertools import cycle

import pytest
import torch

from annotate.models import Assignment, Completion, PolicyCheckpoint, PromptPool
from annotate.progress import pools_with_counts
from annotate.selectors import buffer_progress
from annotate.services.assignments import lease_next_comparison, skip_comparison
from annotate.services.rankings import Answer, submit_ranking
from tests.tiny_models import make_llama
from tests.worlds import make_person, make_pool, make_prompt
from trainer import generation
from trainer.generation import chat, check_languages, loaded_model, sample_texts, save_comparison, write_next_batch
from trainer.services import make_serving

SHORT = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory):
    return make_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def pool(policy, tiny_base):
    loaded_model.cache_clear()
    policy.base_model = str(tiny_base)
    policy.save()
    pool = make_pool(policy, k=3, buffer_size=4, sampling=SHORT)
    for number in range(6):
        make_prompt(pool, f"What do you think about rain? Take {number}.")
    yield pool
    loaded_model.cache_clear()


@pytest.fixture
def candidate(policy, settings, tmp_path, tiny_base):
    """A checkpoint whose adapter is as large as a trained one's and, having been made anew, changes nothing."""
    from trainer.rlhf.config import LoraConfig
    from trainer.rlhf.policy import load_policy

    settings.DATA_DIR = tmp_path
    model = load_policy(tiny_base)
    model.new_adapter("policy", LoraConfig(r=2, alpha=4), seed=1)
    model.save_adapter("policy", tmp_path / "checkpoints" / "one", {})
    return PolicyCheckpoint.objects.create(policy=policy, number=1, parent=policy.serving, path="checkpoints/one")


def fill():
    while write_next_batch():
        pass


def test_it_fills_the_buffer_and_stops_there(pool):
    fill()
    assert buffer_progress() == (4, 4)
    assert pool.comparisons.count() == 4


def skip(assignment: Assignment) -> None:
    lease = {"assignment_id": assignment.pk, "annotator": assignment.annotator, "token": assignment.token}
    skip_comparison(**lease, reason="skip: language")


def answer(assignment: Assignment) -> None:
    lease = {"assignment_id": assignment.pk, "annotator": assignment.annotator, "token": assignment.token}
    ranks = {pk: rank for rank, pk in enumerate(assignment.order, start=1)}
    submit_ranking(**lease, idempotency_key=f"key-{assignment.pk}", answer=Answer(ranks=ranks))


@pytest.mark.parametrize(("end", "overlap"), [(skip, 1), (answer, 2)])
def test_it_writes_on_for_one_who_works_alone(pool, end, overlap):
    """What she skipped, or answered as the first of two, is open to others, and never again to her."""
    pool.overlap = overlap
    pool.save()
    alice = make_person("alice", "annotator")
    fill()
    for _ in range(4):
        end(lease_next_comparison(annotator=alice))
    assert lease_next_comparison(annotator=alice) is None
    assert buffer_progress() == (0, 4)
    assert pools_with_counts().get().ready_count == 0
    fill()
    fill()  # and no more than that while nobody works
    assert (buffer_progress(), pool.comparisons.count()) == ((4, 4), 8)
    assert lease_next_comparison(annotator=alice) is not None
    assert pool.comparisons.filter(taken__lt=overlap).count() == (7 if overlap == 1 else 8), "others may have the first"


def test_the_numbers_of_completions_do_not_tell_who_wrote_them(pool, candidate):
    """They are drafted writer by writer; whoever ranks sees the numbers, and 1 of 3 comes first by chance."""
    prompt, serving = pool.prompts.first(), pool.policy.serving
    firsts = set()
    for _ in range(40):
        drafts = [Completion(checkpoint=writer, text=str(n)) for n, writer in enumerate([candidate, serving, serving])]
        firsts.add(save_comparison(pool, prompt, drafts).completions.order_by("id").first().text)
    assert firsts == {"0", "1", "2"}  # all but once in four million times


def test_each_comparison_has_k_distinct_completions_that_are_not_empty(pool):
    fill()
    for comparison in pool.comparisons.all():
        texts = [completion.text.strip() for completion in comparison.completions.all()]
        assert len(set(texts)) == pool.k
        assert all(texts)


def test_it_asks_every_prompt_once_before_any_twice(pool):
    pool.buffer_size = 6
    pool.save()
    fill()
    assert pool.prompts.filter(comparisons=None).count() == 0


def test_a_stored_seed_writes_the_same_completion_again(pool, monkeypatch):
    """In fp32: half precision rounds a row alone and a row among others apart by enough to change a token."""
    monkeypatch.setattr("trainer.rlhf.policy.pick_dtype", lambda *_: torch.float32)
    fill()
    completion = Completion.objects.select_related("comparison__prompt", "checkpoint__policy").first()
    [again] = sample_texts(
        completion.checkpoint, [completion.comparison.prompt.messages], completion.sampling, [completion.seed]
    )
    assert again.token_ids == completion.token_ids


def test_duplicates_and_empty_completions_are_redrawn(pool, monkeypatch):
    """The sampler gives the same text or none in its first round; the second round is real."""
    real, rounds = generation.sample_texts, []

    def poor_first_round(checkpoint, prompts, sampling, seeds):
        rounds.append(len(prompts))
        written = real(checkpoint, prompts, sampling, seeds)
        if len(rounds) > 1:
            return written
        return [each._replace(text="same" if number % 2 else "  ") for number, each in enumerate(written)]

    monkeypatch.setattr(generation, "sample_texts", poor_first_round)
    write_next_batch()
    assert len(rounds) >= 2
    for comparison in pool.comparisons.all():
        texts = [completion.text for completion in comparison.completions.all()]
        assert len(set(texts)) == 3
        assert "  " not in texts


def test_a_completion_that_names_its_base_is_marked(pool, tiny_base, monkeypatch):
    """The base's name is its own: no list knows Zephyr."""
    config = json.loads((tiny_base / "config.json").read_text())
    (tiny_base / "config.json").write_text(json.dumps(config | {"_name_or_path": "somebody/Zephyr-7B"}))
    real, texts = generation.sample_texts, cycle(["Ask me, I am Zephyr.", "Zephyr is a wind.", "Rain is good."])
    monkeypatch.setattr(
        generation, "sample_texts", lambda *args: [each._replace(text=next(texts)) for each in real(*args)]
    )
    write_next_batch()
    marks = Completion.objects.values_list("text", "names_its_model").distinct().order_by("text")
    assert list(marks) == [("Ask me, I am Zephyr.", True), ("Rain is good.", False), ("Zephyr is a wind.", False)]


def test_a_new_serving_checkpoint_writes_at_once_and_comes_first(pool, candidate):
    fill()
    make_serving(candidate)
    fill()
    newest = pool.comparisons.filter(priority=1)
    assert newest.count() == 4
    written_by = set(newest.values_list("completions__checkpoint__number", flat=True))
    assert 1 in written_by
    assert pool.comparisons.order_by("-priority").first().priority == 1


@pytest.mark.parametrize(("share", "numbers"), [(0.0, {1}), (1.0, {0, 1})])
def test_the_incumbent_writes_as_often_as_the_pool_says(pool, candidate, share, numbers):
    make_serving(candidate)
    pool.incumbent_share = share
    pool.save()
    write_next_batch()
    written_by = set(Completion.objects.values_list("checkpoint__number", flat=True))
    assert written_by == numbers
    # The serving checkpoint always writes at least one of each comparison.
    for comparison in pool.comparisons.all():
        assert comparison.completions.filter(checkpoint=candidate).exists()


def test_a_paused_pool_gets_nothing(pool):
    pool.status = PromptPool.Status.PAUSED
    pool.save()
    assert not write_next_batch()
    assert not pool.comparisons.exists()


def test_a_pool_whose_language_the_model_does_not_write_is_paused_with_the_measure(pool):
    pool.status, pool.language = PromptPool.Status.CHECKING, "zh-hans"
    pool.save()
    check_languages()
    pool.refresh_from_db()
    assert pool.status == "paused"
    assert "% of the letters" in pool.status_reason


def test_a_pool_whose_language_the_model_writes_becomes_active(pool, monkeypatch):
    pool.status = PromptPool.Status.CHECKING
    pool.save()
    real = generation.sample_texts
    monkeypatch.setattr(
        generation, "sample_texts", lambda *args: [each._replace(text="plain words") for each in real(*args)]
    )
    check_languages()
    pool.refresh_from_db()
    assert pool.status == "active"


def test_it_answers_a_chat_with_counts(pool):
    answer = chat(pool.policy.serving.pk, [{"role": "user", "content": "Hello"}], {"max_new_tokens": 5, "seed": 3})
    assert 1 <= answer["completion_tokens"] <= 5
    assert answer["seed"] == 3
    assert answer["finish_reason"] in {"stop", "length"}
