"""The generate worker: keeps every pool's buffer of fresh comparisons full.

It holds one base model in memory and a checkpoint's adapter beside it; a new serving checkpoint is one more adapter,
loaded when its first completion is asked for. Torch is imported inside functions: only this worker pays for it.
"""

import logging
import random
import unicodedata
from functools import lru_cache
from pathlib import Path

from django.db import transaction
from django.db.models import Count, Q

from annotate.models import Comparison, Completion, Policy, PolicyCheckpoint, Prompt, PromptPool
from annotate.selectors import open_comparisons
from annotate.services.audit import record
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


def write_next_batch() -> bool:
    """One batch for each active pool that wants comparisons. True: there is more to do."""
    wants_more = False
    for pool in PromptPool.objects.filter(status=PromptPool.Status.ACTIVE).select_related("policy"):
        missing = pool.buffer_size - fresh_comparisons(pool)
        if missing > 0:
            is_first = not pool.comparisons.exists()
            written = write_comparisons(pool, missing, FIRST_ROWS if is_first else ROWS_PER_BATCH)
            wants_more |= written < missing and written > 0
    return wants_more


def fresh_comparisons(pool: PromptPool) -> int:
    """Comparisons that wait for anybody, written since the serving checkpoint began to serve."""
    return open_comparisons().filter(pool=pool, priority=pool.policy.serving_epoch).count()


def write_comparisons(pool: PromptPool, missing: int, rows: int) -> int:
    """Write up to `missing` comparisons of `pool`, about `rows` completions at once. Returns how many were written."""
    serving = pool.policy.serving
    prompts = next_prompts(pool, max(1, min(missing, rows // pool.k)))
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
    return len(full)


def next_prompts(pool: PromptPool, count: int) -> list[Prompt]:
    """The prompts asked least often so far, in random order among equals, each at most once in a batch."""
    asked = Count("comparisons", filter=Q(comparisons__kind=Comparison.Kind.FRESH))
    return list(pool.prompts.filter(retired_at=None).annotate(asked=asked).order_by("asked", "?")[:count])


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
    asked = list(pool.prompts.order_by("id")[:prompts])
    written = sample(pool.policy.serving, asked, pool.sampling)
    letters = [character for completion in written for character in completion.text if character.isalpha()]
    right = sum(unicodedata.name(letter, "").startswith(script) for letter in letters)
    return right / max(1, len(letters))


def chat(checkpoint_id: int, messages: list[dict], settings: dict) -> dict:
    """One completion for somebody else's program, as text and counts."""
    checkpoint = PolicyCheckpoint.objects.select_related("policy").get(pk=checkpoint_id)
    seed = settings.pop("seed", None)
    seed = random.getrandbits(62) if seed is None else seed
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

    return sample_from(
        ready_policy(checkpoint),
        prompts,
        settings=SamplingSettings(**sampling),
        seeds=seeds,
        max_prompt_tokens=checkpoint.policy.recipe.get("max_prompt_tokens", MAX_PROMPT_TOKENS),
    )


def ready_policy(checkpoint: PolicyCheckpoint):
    """The checkpoint in memory: an adapter on the base model that is there, or a full model of its own."""
    path = adapter_path(checkpoint)
    if path is not None and not (path / "adapter_config.json").exists():
        return loaded_model(checkpoint.policy_id, path)
    policy = loaded_model(checkpoint.policy_id, None)
    if path is None:
        policy.use_adapter(None)
        return policy
    name = f"checkpoint-{checkpoint.number}"
    if name not in policy.adapters():
        for old in policy.adapters()[: -ADAPTERS_KEPT + 1]:
            policy.remove_adapter(old)
        policy.add_adapter(name, path)
    policy.use_adapter(name)
    return policy


@lru_cache(maxsize=2)
def loaded_model(policy_id: int, weights: Path | None):
    """A policy's base model, or a checkpoint's full weights, in this worker's memory."""
    from trainer.rlhf.policy import load_policy

    policy = Policy.objects.get(pk=policy_id)
    return load_policy(base_model_path(policy), adapter=weights, trust_remote_code=policy.trust_remote_code)
