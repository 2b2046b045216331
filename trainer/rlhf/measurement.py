"""What a rollout says about the policy that wrote it: KL, score, and the monitors that show collapse.

Rewards and losses do not reveal collapse: length, KL and perplexity do (Part I, section 4). Perplexity is over
completion tokens alone. All are over the completions of all processes, so that every process decides alike.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.rlhf.experience import Observation, Rollout
from trainer.rlhf.ppo_job import Job, my_places
from trainer.rlhf.text_statistics import distinct, duplicate_share, percentile, repetition


class Measurement(NamedTuple):
    """What a rollout says about the policy that wrote it, the same in every process."""

    scores: Float[Tensor, " batch"]  # this process's
    token_kl: Float[Tensor, "batch time"]  # log pi - log pi_ref of each token, this process's
    kl: float  # nats a completion, mean over all processes
    score: float
    judge: float | None
    rows: int
    tokens: int
    all_scores: Float[Tensor, " rows"]  # every process's
    metrics: dict[str, float]


def measure(job: Job, rollout: Rollout, observation: Observation) -> Measurement:
    """KL, scores and the monitors that show collapse, over the completions of all processes."""
    scores = job.scorer.scores(rollout, observation)
    token_kl = torch.where(rollout.mask, rollout.logprobs - observation.ref_logprobs, 0.0)  # k1: E[k1] = KL
    samples = rollout.samples_per_prompt
    numbers = [number * samples + sample for number in my_places(job) for sample in range(samples)]
    records = {
        number: (
            float(token_kl[row].sum()),
            float(scores[row]),
            None if observation.judge is None else float(observation.judge[row]),
            float(observation.ref_logprobs[row].sum()),
            rollout.samples[row].finish_reason == "length",
            rollout.samples[row].token_ids,
            [] if observation.voters is None else observation.voters[:, row].tolist(),
        )
        for row, number in enumerate(numbers)
    }
    kls, all_scores, judged, ref_sums, is_cut, ids, votes = zip(*job.processes.gather(records), strict=True)
    rows, lengths = len(kls), [len(row) for row in ids]
    low, high = job.scorer.training_range
    judge = None if judged[0] is None else sum(judged) / rows
    kl, score = sum(kls) / rows, sum(all_scores) / rows
    metrics = {
        "objective/kl": kl,
        "objective/kl_per_token": sum(kls) / sum(lengths),
        "objective/scores": score,
        "objective/scores_std": float(torch.tensor(all_scores).std(correction=0)),
        "scores/outside_training_range": sum(not low <= value <= high for value in all_scores) / rows,
        "length/mean": sum(lengths) / rows,
        "length/p95": percentile(lengths, 0.95),
        "length/clipped_share": sum(is_cut) / rows,
        "perplexity/reference": float(torch.tensor(-sum(ref_sums) / sum(lengths)).exp()),
        "text/distinct_1": distinct(ids, 1),
        "text/distinct_2": distinct(ids, 2),
        "text/repetition": repetition(ids),
        "text/duplicates": duplicate_share(ids),
    }
    if judge is not None:
        metrics["objective/judge"] = judge
    if votes[0]:
        metrics["scores/disagreement"] = disagreement(torch.tensor(votes), job.scorer.voters[0].std)
    return Measurement(scores, token_kl, kl, score, judge, rows, sum(lengths), torch.tensor(all_scores), metrics)


def disagreement(votes: Float[Tensor, "row voter"], std: float) -> float:
    """Mean over completions of the voters' standard deviation, in those of the probe's training scores (2310.02743).

    Each voter's mean is taken off first: the constant of a Bradley-Terry score says nothing.
    """
    return float((votes - votes.mean(0)).std(1, correction=0).mean()) / std
