import json
from itertools import cycle

import pytest
import torch

from annotate.models import Assignment, Completion, PolicyCheckpoint, PromptPool
from annotate.progress import pools_with_counts
from annotate.selectors import buffer_progress
from annotate.services.assignments import lease_next_comparison, skip_comparison
from annotate.services.rankings import Answer, submit_ranking
from tests.test_stored_sentences import in_chinese
from tests.tiny_models import TEMPLATE, make_gpt2, make_llama
from tests.worlds import make_person, make_policy, make_pool, make_prompt
from trainer import generation
from trainer.generation import (
    chat,
    check_languages,
    loaded_model,
    ready_policy,
    sample_texts,
    save_comparison,
    write_next_batch,
)
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


@pytest.fixture
def broken(pool, tmp_path):
    """A pool that comes before the other one, and whose base model is gone."""
    other = make_policy("other")
    other.base_model = str(tmp_path / "gone")
    other.save()
    broken = make_pool(other, "a first pool", k=2, buffer_size=2, sampling=SHORT)
    make_prompt(broken, "What do you think about snow?")
    return broken


def reason_of(pool: PromptPool) -> str:
    pool.refresh_from_db()
    return pool.status_reason


def test_a_pool_that_cannot_be_written_for_says_so_and_holds_up_no_other(pool, broken, tiny_base):
    fill()
    assert pool.comparisons.count() == 4
    gone = broken.policy.base_model
    assert reason_of(broken) == f"No comparisons can be written: there is no model in {gone}: there is no such folder"
    assert in_chinese(broken.status_reason) == f"无法生成新的对比：{gone} 里没有模型：这个文件夹不存在"
    assert reason_of(pool) == ""
    broken.policy.base_model = str(tiny_base)
    broken.policy.save()
    fill()
    assert (reason_of(broken), broken.comparisons.exists()) == ("", True)


def test_a_pool_that_cannot_be_checked_says_so_and_holds_up_no_other(pool, broken):
    PromptPool.objects.update(status=PromptPool.Status.CHECKING, language="zh-hans")
    check_languages()
    assert reason_of(broken).startswith("No comparisons can be written: there is no model in ")
    assert broken.status == "checking"
    assert "% of the letters" in reason_of(pool)


def test_why_a_manager_paused_a_pool_meanwhile_stands(pool, monkeypatch):
    def pause_and_fail(*_args):
        PromptPool.objects.update(status=PromptPool.Status.PAUSED, status_reason="It is done.")
        raise RuntimeError

    monkeypatch.setattr(generation, "sample_texts", pause_and_fail)
    write_next_batch()
    assert reason_of(pool) == "It is done."


def test_a_prompt_that_the_chat_template_refuses_rests_and_the_others_are_asked(policy, pool, tmp_path):
    base = make_llama(tmp_path)
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (base / "chat_template.jinja").write_text(refusal + TEMPLATE)
    policy.base_model = str(base)
    policy.save()
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Snow?"}]
    refused = pool.prompts.create(messages=turns)
    for _ in range(4):
        write_next_batch()
        pool.comparisons.update(answered=1, taken=1)
    assert pool.prompts.filter(comparisons=None).get() == refused
    assert reason_of(pool) == ""
    pool.prompts.exclude(pk=refused.pk).update(retired_at="2026-01-01T00:00:00Z")
    write_next_batch()
    why = "the chat template refuses what begins “Be brief.”: no system"
    assert reason_of(pool) == f"No comparisons can be written: {why}"
    assert in_chinese(pool.status_reason) == "无法生成新的对比：对话模板不接受以“Be brief.”开头的对话：no system"


def test_a_prompt_longer_than_the_model_reads_is_cut_to_what_it_reads(policy, pool, tmp_path):
    policy.base_model = str(make_gpt2(tmp_path))
    policy.save()
    make_prompt(pool, "rain " * 600)
    for _ in range(3):
        write_next_batch()
        pool.comparisons.update(answered=1, taken=1)
    assert pool.prompts.filter(comparisons=None).count() == 0
    pool.sampling = SHORT | {"max_new_tokens": 512}
    pool.save()
    write_next_batch()
    assert "reads 512 tokens at most (max_position_embeddings)" in reason_of(pool)
    assert pool.status_reason.endswith("may have 513: lower max_new_tokens")


@pytest.fixture
def poor(monkeypatch):
    """How many completions were asked of prompts that begin with STUCK, and always get the same one."""
    real, asked = generation.sample_texts, []

    def same_for_some(checkpoint, prompts, sampling, seeds):
        stuck = [messages[0]["content"].startswith("STUCK") for messages in prompts]
        asked.extend([True] * sum(stuck))
        written = real(checkpoint, prompts, sampling, seeds)
        return [
            each._replace(text="positive") if is_stuck else each for is_stuck, each in zip(stuck, written, strict=True)
        ]

    monkeypatch.setattr(generation, "sample_texts", same_for_some)
    return asked


def test_prompts_that_give_no_distinct_answers_do_not_starve_a_pool(pool, poor, candidate, monkeypatch):
    monkeypatch.setattr(generation, "FIRST_ROWS", generation.ROWS_PER_BATCH)
    for number in range(4):
        make_prompt(pool, f"STUCK {number}")
    for _ in range(8):
        write_next_batch()
        pool.comparisons.update(answered=1, taken=1)
    assert pool.comparisons.count() == 8 * 4 - 4, "each of the four failed once"
    once = 4 * (3 + 2 + 2 + 2)
    assert len(poor) == once

    make_serving(candidate)  # it may write what the other could not
    for _ in range(3):
        write_next_batch()
        pool.comparisons.update(answered=1, taken=1)
    assert len(poor) == 2 * once

    monkeypatch.setattr("trainer.resting_prompts.REST_SECONDS", 0.0)
    generation.rest_of(pool, candidate).until = dict.fromkeys(pool.prompts.values_list("pk", flat=True), 0.0)
    for _ in range(3):
        write_next_batch()
        pool.comparisons.update(answered=1, taken=1)
    assert len(poor) > 2 * once, "their rest is over"


def test_a_pool_of_such_prompts_alone_says_so_and_is_left_alone(pool, poor):
    pool.prompts.update(messages=[{"role": "user", "content": "STUCK"}])
    for _ in range(5):
        write_next_batch()
    assert len(poor) == 6 * (3 + 2 + 2 + 2)
    reason = "the model does not write 3 different completions for the prompts that were tried"
    assert reason_of(pool).startswith(f"No comparisons can be written: {reason}")
    assert in_chinese(pool.status_reason).startswith("无法生成新的对比：试过的题目，模型都写不出 3 个不同的回答")


def test_it_forgets_the_adapters_used_longest_ago_and_never_the_two_in_use(pool, candidate, monkeypatch):
    from trainer.rlhf.policy import Policy

    made = {
        number: PolicyCheckpoint.objects.create(policy=pool.policy, number=number, path=candidate.path)
        for number in range(6, 11)
    }
    made[11] = PolicyCheckpoint.objects.create(policy=pool.policy, number=11, parent=made[10], path=candidate.path)
    make_serving(made[11])
    loaded, load = [], Policy.add_adapter
    monkeypatch.setattr(Policy, "add_adapter", lambda self, name, path: loaded.append(name) or load(self, name, path))
    for checkpoint in made.values():
        ready_policy(checkpoint)
    loaded.clear()
    for number in (11, 10, 11, 10, 9, 8, 7, 10, 11):
        ready_policy(made[number])
    assert loaded == ["checkpoint-7"]
    assert ready_policy(made[11]).adapters() == [f"checkpoint-{number}" for number in (10, 11, 7, 8)], "9 is gone"
