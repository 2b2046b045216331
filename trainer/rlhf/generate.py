"""The `generate` command: completions of a run folder's prompts from any checkpoint, as JSON lines.

{"prompt_id", "prompt": [{role, content}], "completion", "token_ids", "finish_reason", "seed", "logprob"}

With --unranked the samples of a prompt make one line of rankings.jsonl, ranks all 1, as reward.metarm reads them.
Started anew after a kill or SIGTERM it goes on behind the last chunk of prompts that is on disk, if prompts, checkpoint
and options are the same. Chunks are the same in every run, and so, to the bit, is what is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import Prompt, read_prompts
from trainer.rlhf.encoding import encode_prompts
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.inputs import key_of
from trainer.rlhf.lines import UnfinishedLines
from trainer.rlhf.policy import Policy, check_base_of, load_policy
from trainer.rlhf.processes import join_processes
from trainer.rlhf.rollout import Sample, SamplingSettings, derived_seed, sample_ids
from trainer.rlhf.trunk import check_completion

OWN_POLICIES = ("ppo/policy", "sft/policy")  # the first that is there writes
CHUNK_ROWS = 64  # completions that are sampled together, at least one prompt's: all that a kill can lose


def run_generate(folder: RunFolder, stop: StopSignal, *, options: argparse.Namespace) -> None:
    """Writes `options.samples` completions a prompt to `options.out`; of several processes the first alone does."""
    if not join_processes().is_first:
        return
    config, checkpoint = folder.config, checkpoint_of(folder, folder.config, options)
    print(f"generate: written by {checkpoint or f'the base, {config.base_model}'}", file=sys.stderr)
    policy = load_policy(
        config.base_model, adapter=checkpoint, dtype=config.dtype, trust_remote_code=config.trust_remote_code
    )
    source = folder.path / "prompts.jsonl"
    prompts = [prompt for prompt in read_prompts(source) if options.split in (None, prompt.split or "train")]
    if not prompts and options.split:
        raise StageError(f"prompts.jsonl has no prompt of the split “{options.split}”")
    if not prompts:
        raise StageError("prompts.jsonl has no prompt")
    chosen = [options.split, options.samples, options.temperature, options.top_p, options.seed, options.unranked]
    inputs = (folder.path / "config.json", Path(config.base_model), checkpoint, source)
    lines = UnfinishedLines(
        options.out, key_of("generate", chosen, *inputs), read=(folder.path / "config.json", source)
    )
    chunk = max(1, CHUNK_ROWS // options.samples)
    lines_per_prompt = 1 if options.unranked else options.samples
    done = lines.kept(step=chunk * lines_per_prompt) // lines_per_prompt
    ids = encode_prompts(policy.tokenizer, prompts, max_tokens=config.max_prompt_tokens)
    check_completion(policy.model, max(map(len, ids)) + config.max_completion_tokens)
    for first in range(done, len(prompts), chunk):
        lines.append(lines_of(policy, config, prompts[first : first + chunk], first, options))
        stop.check()
    lines.finish()


def lines_of(
    policy: Policy, config: RunConfig, prompts: Sequence[Prompt], first: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The lines of some prompts; `first` is the number of the first, on which the seeds depend."""
    rows = [prompt for prompt in prompts for _ in range(options.samples)]
    seeds = [
        derived_seed(options.seed, first + place, copy)
        for place in range(len(prompts))
        for copy in range(options.samples)
    ]
    ids = encode_prompts(policy.tokenizer, rows, max_tokens=config.max_prompt_tokens)
    settings = SamplingSettings(options.temperature, options.top_p, config.max_completion_tokens)
    samples = sample_ids(policy, ids, settings=settings, seeds=seeds)
    if not options.unranked:
        return [line_of(*row) for row in zip(rows, seeds, samples, strict=True)]
    each = (samples[start : start + options.samples] for start in range(0, len(samples), options.samples))
    return [unranked(prompt, its) for prompt, its in zip(prompts, each, strict=True)]


def line_of(prompt: Prompt, seed: int, written: Sample) -> dict[str, Any]:
    return {
        "prompt_id": prompt.id,
        "prompt": prompt.messages,
        "completion": written.text,
        "token_ids": written.token_ids,
        "finish_reason": written.finish_reason,
        "seed": seed,
        "logprob": sum(written.logprobs),
    }


def unranked(prompt: Prompt, written: Sequence[Sample]) -> dict[str, Any]:
    """A line of rankings.jsonl in which nothing is said of the order."""
    return {
        "id": prompt.id,
        "prompt_id": prompt.id,
        "prompt": prompt.messages,
        "completions": [
            {"id": str(number), "text": each.text, "token_ids": each.token_ids} for number, each in enumerate(written)
        ],
        "ranks": [1] * len(written),
    }


def checkpoint_of(folder: RunFolder, config: RunConfig, options: argparse.Namespace) -> Path | None:
    """The folder that was named, else the run's own policy (of ppo, or sft), else its parent; None is the base.

    Raises `StageError` if it is of another base than the run's.
    """
    if options.base:
        return None
    own = (path for name in OWN_POLICIES if (path := folder.path / name).exists())
    checkpoint = options.checkpoint or next(own, Path(config.parent) if config.parent else None)
    if checkpoint is not None:
        check_base_of(checkpoint, config)
    return checkpoint
