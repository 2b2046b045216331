"""The `generate` command: completions of a run folder's prompts from any checkpoint, as JSON lines.

{"prompt_id", "prompt": [{role, content}], "completion", "token_ids", "finish_reason", "seed", "logprob"}

With --unranked the samples of a prompt make one line of rankings.jsonl, ranks all 1, as reward.metarm reads them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import Prompt, read_prompts
from trainer.rlhf.folder import RunFolder, StopSignal, write_text
from trainer.rlhf.policy import load_policy
from trainer.rlhf.processes import join_processes
from trainer.rlhf.rollout import Sample, SamplingSettings, derived_seed, sample


def run_generate(folder: RunFolder, stop: StopSignal, *, options: argparse.Namespace) -> None:
    """Writes `options.samples` completions a prompt to `options.out`; of several processes the first alone does."""
    if not join_processes().is_first:
        return
    config = folder.config
    policy = load_policy(
        config.base_model,
        adapter=checkpoint_of(folder, config, options),
        dtype=config.dtype,
        trust_remote_code=config.trust_remote_code,
    )
    prompts = [
        prompt
        for prompt in read_prompts(folder.path / "prompts.jsonl")
        if options.split is None or prompt.split == options.split
    ]
    seeds = [
        derived_seed(options.seed, place, copy) for place in range(len(prompts)) for copy in range(options.samples)
    ]
    rows = [prompt for prompt in prompts for _ in range(options.samples)]
    settings = SamplingSettings(options.temperature, options.top_p, config.max_completion_tokens)
    samples = sample(
        policy,
        [prompt.messages for prompt in rows],
        settings=settings,
        seeds=seeds,
        max_prompt_tokens=config.max_prompt_tokens,
    )
    if options.unranked:
        each = (samples[start : start + options.samples] for start in range(0, len(samples), options.samples))
        lines = [unranked(prompt, written) for prompt, written in zip(prompts, each, strict=True)]
    else:
        lines = [line_of(*row) for row in zip(rows, seeds, samples, strict=True)]
    write_text(options.out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


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
        "completions": [{"id": str(number), "text": each.text} for number, each in enumerate(written)],
        "ranks": [1] * len(written),
    }


def checkpoint_of(folder: RunFolder, config: RunConfig, options: argparse.Namespace) -> Path | None:
    """The folder that was named, else the run's own policy if it has one, else its parent; None is the base."""
    if options.base:
        return None
    if options.checkpoint is not None:
        return options.checkpoint
    own = folder.path / "ppo" / "policy"
    if own.exists():
        return own
    return Path(config.parent) if config.parent else None
