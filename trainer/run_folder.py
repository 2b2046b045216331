"""Fills a run folder from the database, and says where things lie. `docs/run-folder.md` is the contract."""

import hashlib
import json
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from django.conf import settings

from annotate.models import Policy, PolicyCheckpoint, Prompt, PromptPool
from annotate.services.snapshots import snapshot_demonstrations, snapshot_rankings
from config.environment import DEFAULT_BASE_MODEL
from trainer.models import TrainingRun

MAX_PROMPT_TOKENS = 1024  # of a longer prompt BOS or CLS and the end are kept, for people and in a run


def run_folder(run: TrainingRun) -> Path:
    return settings.DATA_DIR / "runs" / run.policy.name / str(run.pk)


def checkpoint_folder(run: TrainingRun) -> Path:
    return settings.DATA_DIR / "checkpoints" / run.policy.name / f"run-{run.pk}"


def adapter_path(checkpoint: PolicyCheckpoint) -> Path | None:
    """The checkpoint's adapter; None for the base model itself."""
    return settings.DATA_DIR / checkpoint.path if checkpoint.path else None


def base_model_path(policy: Policy) -> str:
    """The default base model is wherever this data folder keeps it; any other is a hub id or a folder."""
    if policy.base_model == DEFAULT_BASE_MODEL:
        return str(settings.ENVIRONMENT.default_base_model_folder)
    return policy.base_model


def write_run_folder(run: TrainingRun) -> Path:
    """Write the inputs, the manifest last. A folder that has its manifest is complete and is left alone."""
    folder = run_folder(run)
    if (folder / "manifest.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    run.folder = str(folder.relative_to(settings.DATA_DIR))
    run.config = run_config(run)
    run.save(update_fields=["folder", "config"])
    write_lines(folder / "prompts.jsonl", prompts_to_learn_on(run))
    write_lines(folder / "rankings.jsonl", snapshot_rankings(run.snapshot))
    write_whole(folder / "config.json", json.dumps(run.config, indent=2))
    inputs = ["prompts.jsonl", "rankings.jsonl", "config.json"]
    if demonstrations := list(snapshot_demonstrations(run.snapshot)):
        write_lines(folder / "demonstrations.jsonl", demonstrations)
        inputs.append("demonstrations.jsonl")
    manifest = {
        "run": run.pk,
        "policy": run.policy.name,
        "parent": run.parent.name,
        "snapshot": {"id": run.snapshot_id, "content_hash": run.snapshot.content_hash, "size": run.snapshot.size},
        "seed": run.config["seed"],
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "sha256": {name: sha256(folder / name) for name in inputs},
    }
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=2))
    return folder


def run_config(run: TrainingRun) -> dict:
    """What the trainer needs to know; hyper-parameters are the policy's recipe over the trainer's own defaults."""
    adapter = adapter_path(run.parent)
    # PPO and evaluation sample as the pools do, so that what is trained and judged is what people read. Of pools that
    # differ the highest temperature and the longest completion are taken, each for itself, though no pool may have
    # both. And top-p is 1: a cut distribution is not the one whose log-probs are trained.
    sampling = [pool.sampling for pool in run.policy.pools.filter(status=PromptPool.Status.ACTIVE)]
    temperature = max((each.get("temperature", 1.0) for each in sampling), default=1.0)
    config = {
        "format": 1,
        "seed": run.pk,
        "base_model": base_model_path(run.policy),
        "trust_remote_code": run.policy.trust_remote_code,
        "parent": str(adapter) if adapter else None,
        "max_prompt_tokens": MAX_PROMPT_TOKENS,
        "max_completion_tokens": max((each.get("max_new_tokens", 40) for each in sampling), default=40),
        "ppo": {"temperature": temperature},
        "evaluate": {"temperature": temperature},
    }
    for key, value in run.policy.recipe.items():
        config[key] = {**config[key], **value} if isinstance(config.get(key), dict) else value
    return config


def prompts_to_learn_on(run: TrainingRun) -> Iterable[dict]:
    prompts = Prompt.objects.filter(
        pool__policy=run.policy, pool__status=PromptPool.Status.ACTIVE, retired_at=None
    ).order_by("id")
    for prompt in prompts.iterator(chunk_size=1000):
        yield {
            "id": str(prompt.pk),
            "messages": prompt.messages,
            "split": "held_out" if prompt.is_held_out else "train",
            "language": prompt.language,
        }


def keep_candidate(run: TrainingRun) -> None:
    """Give the trained policy a place among the checkpoints, on disk before a row names it; kept twice is kept once."""
    trained, target = run_folder(run) / "ppo" / "policy", checkpoint_folder(run)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Hard links: the run folder stays whole and re-runnable, the checkpoint outlives it, nothing is stored twice.
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        link_tree(trained, temporary)
        temporary.rename(target)
    for folder in target.parents[:3]:  # the policy's, checkpoints/ and the data folder: a first run makes the first two
        sync_folder(folder)


def link_tree(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            link_tree(path, target / path.name)
        elif not (target / path.name).exists():
            os.link(path, target / path.name)
    sync_folder(target)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder outlive a loss of power. (That of `trainer.rlhf` comes with torch.)"""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
