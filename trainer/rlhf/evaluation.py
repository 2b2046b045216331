"""The `evaluate` stage: is the new policy better than its parent and the base, and what did that cost?

    python -m trainer.rlhf evaluate RUN_FOLDER [--checkpoint FOLDER]
        [--reward-model FOLDER | --reward module:function]

Candidate, parent and base write completions of the same held-out prompts with the same seeds. Each pair of completions
of a prompt is compared under the run's reward model and under its judge, which never saw the same rankings. Reward is
what was optimised, so it is bound to look well; the judge, KL, length, repetition and perplexity say at what price.

Several processes share the chunks. Left out: language models as judges; people decide in the fresh comparisons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from trainer.rlhf.checkpoint import sha256_of
from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import Prompt, read_prompts
from trainer.rlhf.encoding import encode_prompts, token_spans
from trainer.rlhf.experience import Actor, observe, roll_out
from trainer.rlhf.folder import Pace, RunFolder, StageError, StopSignal, write_json
from trainer.rlhf.inputs import keep_inputs, key_of, settings_of, state_of
from trainer.rlhf.intervals import share_of_clusters
from trainer.rlhf.policy import Policy, check_base_of, is_adapter, load_policy
from trainer.rlhf.processes import join_processes
from trainer.rlhf.rollout import Sample, SamplingSettings, derived_seed
from trainer.rlhf.scoring import Scorer, load_scorer, reward_model_folder, scorer_inputs
from trainer.rlhf.text_statistics import distinct, duplicate_share, repetition
from trainer.rlhf.trunk import check_completion

CHUNK_PROMPTS = 12  # one step of progress, and all that a kill can lose
MICRO_TOKENS = 3000


class Written(NamedTuple):
    """One completion and what was measured of it."""

    prompt_id: str
    text: str
    token_ids: list[int]
    logprob: float  # under the policy that wrote it, summed over tokens
    ref_logprob: float  # under the base
    score: float
    judge: float | None
    terms: list[list[float]] | None = None  # [start, end, term] of each token of a sample that is shown


class Rate(NamedTuple):
    """A share with its 95 % interval; `n` comparisons of `prompts` prompts."""

    value: float
    low: float
    high: float
    n: int
    prompts: int


def run_evaluate(
    folder: RunFolder,
    stop: StopSignal,
    *,
    reward: str | None = None,
    reward_model: Path | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Compares a checkpoint, the run's `ppo/policy` unless named, with its parent and the base: `evaluation.json`."""
    config, processes = folder.config, join_processes()
    paths, scoring = contestants(folder, config, checkpoint), scorer_inputs(folder, reward, reward_model)
    # Before they are read: of what is written meanwhile a digest would say that it was measured.
    keep_inputs(folder, "evaluate", [folder.path / "prompts.jsonl", *paths.values(), *scoring.values()], processes)
    inputs = [sha256_of(folder.path / "prompts.jsonl"), Path(config.base_model), *paths.values(), *scoring.values()]
    key = key_of("evaluate", settings_of("evaluate", config), sorted(scoring), *inputs)
    prompts = held_out_prompts(folder, config)
    actors, base = load_contestants(paths, config)
    ids = encode_prompts(base.tokenizer, prompts, max_tokens=config.max_prompt_tokens)
    check_completion(base.model, max(map(len, ids)) + config.max_completion_tokens)
    scorer = load_scorer(folder, reward, base=base, reward_model=reward_model)
    scorer.check_lengths(prompts)
    chunks = [(name, start) for start in range(0, len(prompts), CHUNK_PROMPTS) for name in actors]
    log, state = folder.log("evaluate"), state_of(folder.stage("evaluate") / "state", key, processes)
    if processes.is_first:
        log.cut(sum(_chunk_path(state, name, start).exists() for name, start in chunks))
    pace = Pace(len(chunks))
    for numbers in processes.rounds(len(chunks)):
        stop.check(processes)
        for number in numbers[processes.rank : processes.rank + 1]:
            name, start = chunks[number]
            path = _chunk_path(state, name, start)
            if path.exists():
                continue
            rows = write_and_measure(actors[name], prompts[start : start + CHUNK_PROMPTS], start, base, scorer, config)
            write_json(path, rows)
            if processes.is_first:
                metrics = {f"{name}/score": sum(row.score for row in rows) / len(rows)}
                left = pace.left(number + 1) / processes.world
                log.append(number + 1, len(chunks), metrics, seconds_left=left)
    processes.barrier()
    if processes.is_first:
        written = {name: _read_chunks(state, name, len(prompts)) for name in actors}
        report = None if reward else reward_model_folder(folder, reward_model).parent / "report.json"
        write_json(folder.product("evaluate"), evaluation(written, prompts, config, report))


def held_out_prompts(folder: RunFolder, config: RunConfig) -> list[Prompt]:
    """At most `evaluate.prompts`, evenly from the whole file: its first may all be of one pool, kind or language."""
    prompts = [prompt for prompt in read_prompts(folder.path / "prompts.jsonl") if prompt.split == "held_out"]
    if not prompts:
        raise StageError("prompts.jsonl has no prompt of the split “held_out”: there is nothing to compare on")
    count = min(len(prompts), config.evaluate.prompts)
    return [prompts[number * len(prompts) // count] for number in range(count)]


def contestants(folder: RunFolder, config: RunConfig, checkpoint: Path | None = None) -> dict[str, Path]:
    """The folders of candidate and parent, if there is one; `StageError` where one is of another base."""
    paths = {"candidate": candidate_of(folder, checkpoint)} | ({"parent": Path(config.parent)} if config.parent else {})
    for path in paths.values():
        check_base_of(path, config)
    return paths


def load_contestants(paths: Mapping[str, Path], config: RunConfig) -> tuple[dict[str, Actor], Policy]:
    """The policies in these folders, and the base as the last of them; adapters share the base's weights."""
    options = {"dtype": config.dtype, "trust_remote_code": config.trust_remote_code}
    base = load_policy(config.base_model, **options)
    actors = {}
    for name, path in paths.items():
        if is_adapter(path):
            base.add_adapter(name, path)
            actors[name] = Actor(base, name)
        else:
            actors[name] = Actor(load_policy(config.base_model, adapter=path, **options), None)
    return actors | {"base": Actor(base, None)}, base


def candidate_of(folder: RunFolder, named: Path | None) -> Path:
    """The checkpoint that was named, or the run's own; `StageError` if it is not there."""
    path = folder.path / "ppo" / "policy" if named is None else named
    if (path / "manifest.json").exists():
        return path
    if named is None:
        raise StageError("there is no ppo/policy to evaluate: run the ppo stage first")
    if not is_adapter(named):
        raise StageError(f"there is no checkpoint in {named}")
    return path


def write_and_measure(
    actor: Actor, prompts: Sequence[Prompt], first: int, base: Policy, scorer: Scorer, config: RunConfig
) -> list[Written]:
    """Completions of some prompts; `first` is the number of the first, on which the seeds depend."""
    settings = config.evaluate
    rollout = roll_out(
        actor,
        prompts,
        encode_prompts(base.tokenizer, prompts, max_tokens=config.max_prompt_tokens),
        samples=settings.samples,
        seeds=[
            derived_seed(config.seed, 4, first + place, sample)
            for place in range(len(prompts))
            for sample in range(settings.samples)
        ],
        settings=SamplingSettings(settings.temperature, 1.0, config.max_completion_tokens),
    )
    observation = observe(
        rollout,
        base=base,
        reference=Actor(base, None),
        heads=(scorer.head, scorer.judge_head),
        critic_layer=None,
        temperature=settings.temperature,
        max_tokens=MICRO_TOKENS,
    )
    scores = scorer.scores(rollout, observation).tolist()
    judged = [None] * len(scores) if observation.judge is None else observation.judge.tolist()
    sums = torch.stack([rollout.logprobs.sum(1), observation.ref_logprobs.sum(1)], dim=1).tolist()
    shown = range(0, settings.samples * max(0, settings.shown - first), settings.samples)
    terms = scorer.token_terms(rollout, observation) if shown else None
    return [
        Written(
            prompts[row // settings.samples].id,
            sample.text,
            sample.token_ids,
            *sums[row],
            scores[row],
            judged[row],
            placed_terms(base.tokenizer, sample, terms[row].tolist()) if terms and row in shown else None,
        )
        for row, sample in enumerate(rollout.samples)
    ]


def placed_terms(tokenizer: PreTrainedTokenizerBase, sample: Sample, terms: list[float]) -> list[list[float]]:
    """Each token's place in the text with its term of the score; that of EOS stands at the end."""
    spans = token_spans(tokenizer, sample.token_ids)
    return [[*span, round(term, 4)] for span, term in zip(spans, terms, strict=True)]


def evaluation(
    written: dict[str, list[Written]], prompts: Sequence[Prompt], config: RunConfig, report: Path | None
) -> dict[str, Any]:
    """The record of `evaluation.json`; without a parent the base is the parent.

    `report` is that of the reward model that scored; None where a function did, of which no report speaks.
    """
    candidate, base = written["candidate"], written["base"]
    parent = written.get("parent", base)
    contestants = {"candidate": candidate, "parent": parent, "base": base}
    ids = {name: [row.token_ids for row in rows] for name, rows in contestants.items()}
    rate = win_rate(candidate, parent, lambda row: row.score)
    has_judge = candidate[0].judge is not None
    judged = win_rate(candidate, parent, lambda row: row.judge) if has_judge else None
    said = json.loads(report.read_text(encoding="utf-8")) if report is not None and report.exists() else {}
    return {
        "win_rate": rate._asdict(),
        "win_rate_base": win_rate(candidate, base, lambda row: row.score)._asdict(),
        "judge": judged._asdict() if judged else None,
        "judge_base": win_rate(candidate, base, lambda row: row.judge)._asdict() if has_judge else None,
        "is_overoptimised": is_overoptimised(rate, judged, (said.get("judge") or {}).get("low")),
        "kl": _mean(row.logprob - row.ref_logprob for row in candidate),
        "kl_parent": _mean(row.logprob - row.ref_logprob for row in parent),
        "length": {name: _mean(map(len, rows)) for name, rows in ids.items()},
        "distinct_1": {name: distinct(rows, 1) for name, rows in ids.items()},
        "distinct_2": {name: distinct(rows, 2) for name, rows in ids.items()},
        "repetition": {name: repetition(rows) for name, rows in ids.items()},
        "duplicates": {name: duplicate_share(rows) for name, rows in ids.items()},
        "perplexity": perplexity(candidate),
        "perplexity_parent": perplexity(parent),
        "perplexity_base": perplexity(base),
        "reward_accuracy": (said.get("accuracy") or {}).get("value"),
        "ece": (said.get("calibration") or {}).get("ece"),
        "samples": side_by_side(prompts, candidate, parent, base, config),
    }


def is_overoptimised(rate: Rate, judged: Rate | None, judge_accuracy: float | None) -> bool:
    """Whether a candidate beats its parent by the reward model, and surely loses to it by the judge.

    Asked only of a judge that beats chance: the low end of its held-out accuracy's interval lies over a half. One that
    guesses is at odds with the reward model as often as not.
    """
    if judged is None or judge_accuracy is None or judge_accuracy <= 0.5:
        return False
    return rate.low > 0.5 and judged.high < 0.5


def perplexity(rows: Sequence[Written]) -> float:
    """exp(- mean log-prob of a token under the base): completion tokens alone, each weighing the same."""
    return math.exp(-sum(row.ref_logprob for row in rows) / sum(len(row.token_ids) for row in rows))


def win_rate(ours: Sequence[Written], theirs: Sequence[Written], value: Callable[[Written], float]) -> Rate:
    """How often ours beats theirs over all pairs of completions of the same prompt; a tie is half a win.

    The interval knows that completions of one prompt are not independent (`intervals.py`).
    """
    by_prompt: dict[str, tuple[list[float], list[float]]] = {}
    for side, rows in enumerate((ours, theirs)):
        for row in rows:
            by_prompt.setdefault(row.prompt_id, ([], []))[side].append(value(row))
    means = [_mean((a > b) + 0.5 * (a == b) for a in mine for b in others) for mine, others in by_prompt.values()]
    pairs = sum(len(mine) * len(others) for mine, others in by_prompt.values())
    return Rate(*share_of_clusters(means, most=len(ours)), pairs, len(means))


def side_by_side(
    prompts: Sequence[Prompt],
    candidate: Sequence[Written],
    parent: Sequence[Written],
    base: Sequence[Written],
    config: RunConfig,
) -> list[dict[str, Any]]:
    """The first completion of each contestant for the first prompts."""
    step = config.evaluate.samples
    rows = zip(prompts, candidate[::step], parent[::step], base[::step], strict=True)
    return [
        {
            "prompt_id": prompt.id,
            "prompt": prompt.messages,
            "candidate": ours.text,
            "parent": theirs.text,
            "base": first.text,
            "scores": [ours.score, theirs.score, first.score],
            "terms": [ours.terms, theirs.terms, first.terms],
        }
        for prompt, ours, theirs, first in list(rows)[: config.evaluate.shown]
    ]


def _read_chunks(state: Path, name: str, prompts: int) -> list[Written]:
    """What one contestant has written, in the order of the prompts."""
    paths = [_chunk_path(state, name, start) for start in range(0, prompts, CHUNK_PROMPTS)]
    return [Written(*row) for path in paths for row in json.loads(path.read_text(encoding="utf-8"))]


def _chunk_path(state: Path, name: str, start: int) -> Path:
    return state / f"{name}-{start:05d}.json"


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
