"""The generate worker: keeps every pool's buffer of fresh comparisons full.

It holds one base model in memory and a checkpoint's adapter beside it; a new serving checkpoint is one more adapter,
loaded when its first completion is asked for. Torch is imported inside functions: only this worker pays for it.
"""

import logging
import random
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from time import monotonic

from django.db import transaction
from django.db.models import Count, Q

from annotate.models import Comparison, Completion, Policy, PolicyCheckpoint, Prompt, PromptPool
from annotate.selectors import open_comparisons
from annotate.services.audit import record
from trainer.resting_prompts import rest_of
from trainer.run_folder import MAX_PROMPT_TOKENS, adapter_path, base_model_path
from trainer.selectors import incumbent
from trainer.self_naming import names_its_model, own_name

logger = logging.getLogger("whetstone.generate")

ROWS_PER_BATCH = 48
FIRST_ROWS = 8  # the very first batch is small: somebody may be waiting for the page
REDRAWS = 4
ADAPTERS_KEPT = 4
SCRIPTS = {"zh": "CJK", "ja": "HIRAGANA", "ko": "HANGUL", "ru": "CYRILLIC", "ar": "ARABIC", "he": "HEBREW"}
SHARE_THAT_WRITES = 0.7


class NothingToWrite(Exception):
    """No prompt of the pool gives a comparison now; the message says why."""


def write_next_batch() -> bool:
    """One batch for each active pool that wants comparisons. True: there is more to do."""
    wants_more = False
    for pool in PromptPool.objects.filter(status=PromptPool.Status.ACTIVE).select_related("policy"):
        with failure_kept(pool):
            missing = pool.buffer_size - fresh_comparisons(pool)
            if missing > 0:
                is_first = not pool.comparisons.exists()
                written = write_comparisons(pool, missing, FIRST_ROWS if is_first else ROWS_PER_BATCH)
                wants_more |= written < missing and written > 0
    return wants_more


@contextmanager
def failure_kept(pool: PromptPool) -> Iterator[None]:
    """What fails for one pool stops no other: its manager reads why on its page, until it works again."""
    status, before, reason = pool.status, pool.status_reason, ""
    try:
        yield
    except Exception as error:
        reason = f"No comparisons can be written: {in_words(error)}"
        if reason != before:  # it is tried again every few seconds
            logger.warning("pool %s: %s", pool, reason, exc_info=not isinstance(error, NothingToWrite))
    if reason != before:
        # Not if it was paused meanwhile: that reason stands. One that is not paused has no other reason than this.
        PromptPool.objects.filter(pk=pool.pk, status=status).update(status_reason=reason)


def in_words(error: Exception) -> str:
    from trainer.rlhf.folder import StageError

    is_sentence = isinstance(error, StageError | NothingToWrite)
    return str(error) if is_sentence else f"{type(error).__name__}: {error}"[:500]


def fresh_comparisons(pool: PromptPool) -> int:
    """Comparisons that wait for anybody, written since the serving checkpoint began to serve."""
    return open_comparisons().filter(pool=pool, priority=pool.policy.serving_epoch).count()


def write_comparisons(pool: PromptPool, missing: int, rows: int) -> int:
    """Write up to `missing` comparisons of `pool`, about `rows` completions at once. Returns how many were written."""
    serving = pool.policy.serving
    prompts = readable_prompts(pool, serving, next_prompts(pool, serving, max(1, min(missing, rows // pool.k))))
    writers = {prompt.pk: choose_writers(pool, serving) for prompt in prompts}
    drafts = {prompt.pk: [] for prompt in prompts}
    for attempt in range(REDRAWS):
        wanted = [
            (prompt, checkpoint)
            for prompt in prompts
            for checkpoint in still_to_write(writers[prompt.pk], drafts[prompt.pk])
        ]
        if not wanted:
            break
        for checkpoint in {checkpoint.pk: checkpoint for _, checkpoint in wanted}.values():
            asked = [prompt for prompt, writer in wanted if writer.pk == checkpoint.pk]
            for prompt, completion in zip(asked, sample(checkpoint, asked, pool.sampling), strict=True):
                if is_new(completion, drafts[prompt.pk]):
                    drafts[prompt.pk].append(completion)
        if attempt:
            logger.info("pool %s: redrew %s empty or duplicate completions", pool, len(wanted))
    full = [prompt for prompt in prompts if len(drafts[prompt.pk]) == pool.k]
    for prompt in full:
        save_comparison(pool, prompt, drafts[prompt.pk])
    if short := [prompt for prompt in prompts if prompt not in full]:
        numbers = ", ".join(str(prompt.pk) for prompt in short)
        logger.warning("pool %s: no %s different completions for prompts %s", pool, pool.k, numbers)
        rest_of(pool, serving).begin(
            short,
            f"the model does not write {pool.k} different completions for the prompts that were tried: raise the "
            "temperature or max_new_tokens, or ask for fewer completions",
        )
    if short and not full:
        raise NothingToWrite(rest_of(pool, serving).why)
    return len(full)


def next_prompts(pool: PromptPool, serving: PolicyCheckpoint, count: int) -> list[Prompt]:
    """The prompts asked least often so far, in random order among equals, each at most once in a batch.

    Without those that rest: one that never gives a comparison would be asked least for ever. Raises `NothingToWrite`
    where all of them do.
    """
    rest = rest_of(pool, serving)
    asked = Count("comparisons", filter=Q(comparisons__kind=Comparison.Kind.FRESH))
    prompts = pool.prompts.filter(retired_at=None)
    awake = prompts.exclude(pk__in=list(rest.until)).annotate(asked=asked)
    found = list(awake.order_by("asked", "?")[:count])
    if not found and prompts.exists():
        raise NothingToWrite(rest.why)
    return found


def readable_prompts(pool: PromptPool, serving: PolicyCheckpoint, prompts: list[Prompt]) -> list[Prompt]:
    """Those that the chat template takes, a role or an order of roles say; the others rest."""
    from trainer.rlhf.encoding import ConversationError, encode_prompt

    if not prompts:
        return []
    tokenizer, readable = ready_policy(serving).tokenizer, []
    for prompt in prompts:
        try:
            encode_prompt(tokenizer, prompt.messages, max_tokens=MAX_PROMPT_TOKENS)
        except ConversationError as error:
            logger.warning("pool %s: prompt %s: %s", pool, prompt.pk, error)
            rest_of(pool, serving).begin([prompt], str(error))
        else:
            readable.append(prompt)
    return readable


def choose_writers(pool: PromptPool, serving: PolicyCheckpoint) -> list[PolicyCheckpoint]:
    """Who writes the K completions: the serving checkpoint, and here and there the incumbent it replaced."""
    before = incumbent(pool.policy)
    if before is None:
        return [serving] * pool.k
    others = [before if random.random() < pool.incumbent_share else serving for _ in range(pool.k - 1)]
    return [serving, *others]


def still_to_write(writers: list[PolicyCheckpoint], drafts: list[Completion]) -> list[PolicyCheckpoint]:
    left = list(writers)
    for draft in drafts:
        left.remove(next(writer for writer in left if writer.pk == draft.checkpoint_id))
    return left


def is_new(completion: Completion, drafts: list[Completion]) -> bool:
    """Neither empty nor, white space and case apart, what stands there already."""
    text = " ".join(completion.text.split()).casefold()
    return bool(text) and text not in {" ".join(draft.text.split()).casefold() for draft in drafts}


def sample(checkpoint: PolicyCheckpoint, prompts: list[Prompt], sampling: dict) -> list[Completion]:
    """One completion for each prompt, unsaved, with the seed and settings that would write it again."""
    seeds = [random.getrandbits(62) for _ in prompts]
    written = sample_texts(checkpoint, [prompt.messages for prompt in prompts], sampling, seeds)
    base_name = own_name(checkpoint.policy.base_model)
    return [
        Completion(
            checkpoint=checkpoint,
            text=each.text,
            token_ids=list(each.token_ids),
            sampling=sampling,
            seed=seed,
            finish_reason=each.finish_reason,
            names_its_model=names_its_model(each.text, base_name),
        )
        for each, seed in zip(written, seeds, strict=True)
    ]


@transaction.atomic
def save_comparison(pool: PromptPool, prompt: Prompt, completions: list[Completion]) -> Comparison:
    comparison = Comparison.objects.create(
        pool=pool, prompt=prompt, overlap=pool.overlap, priority=pool.policy.serving_epoch
    )
    for completion in completions:
        completion.comparison = comparison
    random.shuffle(completions)  # they came writer by writer, and whoever ranks sees their numbers
    Completion.objects.bulk_create(completions)
    return comparison


def check_languages() -> None:
    """Measure, for every pool that is being checked, whether the base model writes its language; pause it if not."""
    for pool in PromptPool.objects.filter(status=PromptPool.Status.CHECKING).select_related("policy"):
        with failure_kept(pool):
            check_language(pool)


def check_language(pool: PromptPool) -> None:
    share = share_in_language(pool)
    if share >= SHARE_THAT_WRITES:
        pool.status, pool.status_reason = PromptPool.Status.ACTIVE, ""
    else:
        pool.status = PromptPool.Status.PAUSED
        pool.status_reason = (
            f"{share:.0%} of the letters that {pool.policy.base_model.rsplit('/', 1)[-1]} wrote for these prompts "
            f"are of the pool's language; {SHARE_THAT_WRITES:.0%} are asked. "
            "Set BASE_MODEL to a model that writes it, or resume the pool."
        )
    pool.save(update_fields=["status", "status_reason"])
    record(actor=None, action="check.pool", target=str(pool), share=share)


def share_in_language(pool: PromptPool, prompts: int = 12) -> float:
    """The share of letters in the script of the pool's language, over one completion each of some of its prompts."""
    script = SCRIPTS.get(pool.language.split("-")[0], "LATIN")
    serving = pool.policy.serving
    rest = rest_of(pool, serving)
    found = pool.prompts.exclude(pk__in=list(rest.until)).order_by("id")[:prompts]
    asked = readable_prompts(pool, serving, list(found))
    if not asked and rest.until:
        raise NothingToWrite(rest.why)
    written = sample(serving, asked, pool.sampling)
    letters = [character for completion in written for character in completion.text if character.isalpha()]
    right = sum(unicodedata.name(letter, "").startswith(script) for letter in letters)
    return right / max(1, len(letters))


def chat(checkpoint_id: int, messages: list[dict], settings: dict) -> dict:
    """One completion for somebody else's program, as text and counts."""
    checkpoint = PolicyCheckpoint.objects.select_related("policy").get(pk=checkpoint_id)
    seed = settings.pop("seed", None)
    seed = random.getrandbits(62) if seed is None else seed
    settings["max_new_tokens"] = room_for_completion(checkpoint, messages, settings["max_new_tokens"])
    [written] = sample_texts(checkpoint, [messages], settings, [seed])
    return {
        "text": written.text,
        "finish_reason": written.finish_reason,
        "completion_tokens": len(written.token_ids),
        "seed": seed,
    }


def sample_texts(checkpoint: PolicyCheckpoint, prompts: list[list[dict]], sampling: dict, seeds: list[int]) -> list:
    from trainer.rlhf.rollout import SamplingSettings
    from trainer.rlhf.rollout import sample as sample_from

    policy, settings = ready_policy(checkpoint), SamplingSettings(**sampling)
    wanted = checkpoint.policy.recipe.get("max_prompt_tokens", MAX_PROMPT_TOKENS)
    return sample_from(
        policy,
        prompts,
        settings=settings,
        seeds=seeds,
        max_prompt_tokens=room_for_prompt(policy.model, wanted, settings.max_new_tokens),
    )


def room_for_completion(checkpoint: PolicyCheckpoint, messages: list[dict], wanted: int) -> int:
    """`wanted` tokens, or as many as the model reads after this conversation: of which nothing is cut for them."""
    from trainer.rlhf.context import context_of
    from trainer.rlhf.encoding import encode_prompt
    from trainer.rlhf.trunk import trunk_of

    policy = ready_policy(checkpoint)
    most = checkpoint.policy.recipe.get("max_prompt_tokens", MAX_PROMPT_TOKENS)
    context = context_of(trunk_of(policy.model), is_masked_by_us=True)
    prompt = encode_prompt(policy.tokenizer, messages, max_tokens=most)
    return wanted if context is None else max(1, min(wanted, context.tokens - len(prompt)))


def room_for_prompt(model, wanted: int, max_new_tokens: int) -> int:
    """`wanted` tokens, or as many as the model reads before the completion; `StageError` where that leaves none."""
    from trainer.rlhf.context import check_length, context_of
    from trainer.rlhf.trunk import trunk_of

    trunk, what = trunk_of(model), "a prompt with its completion"
    context = context_of(trunk, is_masked_by_us=True)
    check_length(trunk, max_new_tokens + 1, what, keys="max_new_tokens", is_masked_by_us=True)
    return wanted if context is None else min(wanted, context.tokens - max_new_tokens)


def ready_policy(checkpoint: PolicyCheckpoint):
    """The checkpoint in memory: an adapter on the base model that is there, or a full model of its own."""
    path = adapter_path(checkpoint)
    if path is not None and not (path / "adapter_config.json").exists():
        return loaded_model(checkpoint.policy_id, path)
    policy = loaded_model(checkpoint.policy_id, None)
    if path is None:
        policy.use_adapter(None)
        return policy
    name = adapter_name(checkpoint)
    if name not in policy.adapters():
        make_room_for_one(policy, checkpoint.policy)
        policy.add_adapter(name, path)
    used_at[checkpoint.policy_id, name] = monotonic()
    policy.use_adapter(name)
    return policy


used_at: dict[tuple[int, str], float] = {}  # when an adapter of a policy wrote last


def make_room_for_one(model, policy: Policy) -> None:
    """Forget the adapters used longest ago, but neither that of the serving checkpoint nor that of the incumbent."""
    in_use = [adapter_name(checkpoint) for checkpoint in (policy.serving, incumbent(policy)) if checkpoint]
    idle = [name for name in model.adapters() if name not in in_use]
    idle.sort(key=lambda name: used_at.get((policy.pk, name), 0.0))
    for old in idle[: max(0, len(model.adapters()) - ADAPTERS_KEPT + 1)]:
        model.remove_adapter(old)


def adapter_name(checkpoint: PolicyCheckpoint) -> str:
    return f"checkpoint-{checkpoint.number}"


@lru_cache(maxsize=2)
def loaded_model(policy_id: int, weights: Path | None):
    """A policy's base model, or a checkpoint's full weights, in this worker's memory."""
    from trainer.rlhf.policy import load_policy

    policy = Policy.objects.get(pk=policy_id)
    return load_policy(base_model_path(policy), adapter=weights, trust_remote_code=policy.trust_remote_code)
