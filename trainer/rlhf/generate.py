"""The `generate` command: completions of a run folder's prompts from any checkpoint, as JSON lines.

{"prompt_id", "prompt": [{role, content}], "completion", "token_ids", "finish_reason", "seed", "logprob"}
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import read_prompts
from trainer.rlhf.folder import RunFolder, StopSignal, write_text
from trainer.rlhf.policy import load_policy
from trainer.rlhf.processes import join_processes
from trainer.rlhf.rollout import SamplingSettings, derived_seed, sample


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
    lines = [
        {
            "prompt_id": prompt.id,
            "prompt": prompt.messages,
            "completion": written.text,
            "token_ids": written.token_ids,
            "finish_reason": written.finish_reason,
            "seed": seed,
            "logprob": sum(written.logprobs),
        }
        for prompt, seed, written in zip(rows, seeds, samples, strict=True)
    ]
    write_text(options.out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


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
