"""PPO-max: proximal policy optimisation from human preferences, as in *Secrets of RLHF* Part I (2307.04964).

    for each update:
        roll out        sample K completions of each prompt from the policy
        observe         reference log-probs, scores, judge, values          (one forward where heads share the base)
        reward          r_t = -eta (log pi - log pi_ref), + clip((score - mu) / sigma) at the last token
        advantage       GAE, whitened over all tokens
        learn           clipped policy loss, clipped value loss, ptx        (minibatches of prompts)

The last pass of the loop only measures, so that the checkpoint's KL is its own. A KL past the stop is measured twice,
and if it is past it still the run ends, its last step shortened; a run whose parent is past it does not begin. Every
draw is a function of (seed, update, prompt, sample): nothing but the state on disk decides what the next update does.

Left out: reference resets within a run, asynchronous rollouts, one reward model for several policies.

    python -m trainer.rlhf ppo RUN_FOLDER [--reward module:function]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from trainer.rlhf.advantage import (
    Advantages,
    Moments,
    centred_terms,
    explained_variance,
    gae,
    normalised,
    token_rewards,
    whitened,
)
from trainer.rlhf.config import KLConfig, PPOConfig
from trainer.rlhf.critic import (
    critic_step,
    pretrain_critic,
    rollout_states,
    rollout_values,
    standardise,
    start_from_reward,
)
from trainer.rlhf.exact import exact
from trainer.rlhf.experience import (
    Layout,
    Observation,
    Rollout,
    completion_logprobs,
    layouts,
    observe,
    roll_out,
    rollout_logprobs,
)
from trainer.rlhf.flops import critic_flops, matmul_peak, observe_flops, policy_flops, rollout_flops
from trainer.rlhf.folder import MetricsLog, Pace, RunFolder, StageError, Stopped, StopSignal
from trainer.rlhf.gradients import clip_gradients
from trainer.rlhf.measurement import Measurement, measure
from trainer.rlhf.overoptimisation import favourite, is_overoptimised, is_past_peak
from trainer.rlhf.ppo_job import (
    Clock,
    Job,
    Progress,
    StepMetrics,
    copy_of,
    my_places,
    prepare,
    prompts_of_update,
    publish,
    resume,
    save_progress,
)
from trainer.rlhf.processes import Processes
from trainer.rlhf.rollout import SamplingSettings, derived_seed
from trainer.rlhf.trunk import check_completion


def run_ppo(
    folder: RunFolder, stop: StopSignal, *, reward: str | None = None, reward_model: Path | None = None
) -> None:
    """Trains a policy in a run folder from where its state stands; writes `ppo/policy/`."""
    job = prepare(folder, folder.config, reward, reward_model)
    check_lengths(job)
    progress, log = resume(folder, job), folder.log("ppo")
    config, is_first = job.config.ppo, job.processes.is_first
    if is_first:
        log.cut(progress.update or -1)  # a run that starts anew repeats its message of step 0
        peak = matmul_peak(job.actor.policy.model.dtype, job.actor.policy.device)
    pace = Pace(config.updates)
    for update in range(progress.update + 1, config.updates + 2):
        clock = Clock()
        seen = look(job, update, clock)
        if is_past_stop(config.kl, progress, seen.measured):
            seen = seen._replace(measured=look_again(job, update, seen.measured, clock))
        measured = seen.measured
        if update == 1:
            check_start(config.kl, measured)
        progress.stopped_because = reason_to_stop(config, progress, measured)
        if progress.stopped_because is not None:
            if progress.stopped_because == "kl":
                shorten_last_step(job, progress, update)
            if is_first:
                say_once(log, progress.update, config.updates, sentence_of(progress))
            break
        accept(job, progress, measured)
        if update > config.updates:
            break
        learned = learn(job, progress, update, seen, clock, log if is_first else None)
        if config.kl.target is not None:
            share = measured.rows / config.kl.horizon
            progress.kl_coef = adapted_kl_coef(progress.kl_coef, measured.kl, target=config.kl.target, share=share)
        progress.update = update
        is_stopping = stop.is_agreed(job.processes)
        if is_first:
            # The line before the state: a resumed run cuts lines, it does not make up for them.
            metrics = measured.metrics | learned | clock.speeds(measured.tokens) | clock.shares(peak)
            log.append(update, config.updates, metrics, seconds_left=pace.left(update))
            if update % config.checkpoint_every == 0 or is_stopping:
                save_progress(folder, job, progress)
        if is_stopping:
            raise Stopped
    if is_first:
        publish(folder, job, progress)
    job.processes.barrier()


def check_lengths(job: Job) -> None:
    """Raises `StageError` where a prompt and the longest completion are more than a model reads: no update is lost."""
    check_completion(job.base.model, max(map(len, job.prompt_ids)) + job.config.max_completion_tokens)
    job.scorer.check_lengths(job.prompts)


class Seen(NamedTuple):
    """Completions of a policy, what the frozen models say of them, and what that says of the policy."""

    rollout: Rollout
    observation: Observation
    measured: Measurement


def look(job: Job, update: int, clock: Clock) -> Seen:
    """Samples from the policy as it stands, and measures it."""
    rollout = sample_prompts(job, update)
    clock.lap("rollout")
    observation = observe_rollout(job, rollout)
    measured = measure(job, rollout, observation)
    clock.lap("observe")
    clock.count("rollout", rollout_flops(job, rollout))
    clock.count("observe", observe_flops(job, rollout))
    return Seen(rollout, observation, measured)


def look_again(job: Job, update: int, measured: Measurement, clock: Clock) -> Measurement:
    """`measured`, its KL the mean with that of a second rollout, dealt and drawn as that of no update.

    48 completions know their KL to about 0.6 nats. Of several looks at policies near the stop, one passes it by chance.
    """
    kl = (measured.kl + look(job, job.config.ppo.updates + 1 + update, clock).measured.kl) / 2
    return measured._replace(kl=kl, metrics=measured.metrics | {"objective/kl": kl})


def reason_to_stop(config: PPOConfig, progress: Progress, measured: Measurement) -> str | None:
    """`judge` where the score rises while it falls, `peak` past that of its fit, `kl` past the stop; None to go on."""
    history = progress.history
    if measured.judge is not None:
        judge = [*history["judge"], measured.judge]
        if is_overoptimised([*history["scores"], measured.score], judge, config.judge_patience):
            return "judge"
        if config.has_peak_stop and is_past_peak([*history["kl"], measured.kl], judge):
            return "peak"
    return "kl" if is_past_stop(config.kl, progress, measured) else None


def is_past_stop(config: KLConfig, progress: Progress, measured: Measurement) -> bool:
    """Whether a rollout's KL is more than the run may reach; the first rollout is of its start."""
    start = [*progress.history["kl"], measured.kl][0]
    return measured.kl > kl_limit(config, start)


def check_start(config: KLConfig, measured: Measurement) -> None:
    """Raises `StageError` where the parent is past the hard stop: no step of the run could be published."""
    if config.stop is not None and measured.kl > config.stop:
        raise StageError(
            f"the parent is {measured.kl:.3g} nats from the reference, and ppo.kl.stop is {config.stop:g}: set "
            "ppo.reference to parent, or raise ppo.kl.stop"
        )


def shorten_last_step(job: Job, progress: Progress, update: int) -> None:
    """Backtracks by halves towards the policy accepted last, and accepts the first that lies under the KL stop too.

    theta <- (theta + theta_accepted) / 2, as the line search of TRPO (1502.05477, appendix C). Near the stop an update
    may add nats by the handful, and what lies between the two policies would be given away.
    """
    for _ in range(job.config.ppo.kl.backtracks):
        with torch.no_grad():
            for name, parameter in job.parameters.items():
                parameter.lerp_(progress.accepted[name], 0.5)
        measured = look_again(job, update, look(job, update, Clock()).measured, Clock())
        if not is_past_stop(job.config.ppo.kl, progress, measured):
            accept(job, progress, measured)
            return


def say_once(log: MetricsLog, update: int, updates: int, sentence: str) -> None:
    """A run that is killed after it has said so stops there again: its line is of the state's own update, and stays."""
    if all(record.get("message") != sentence for record in log.records()):
        log.append(update, updates, message=sentence)


def sentence_of(progress: Progress) -> str:
    """Why a run ends early, for people."""
    if progress.stopped_because == "kl" and progress.is_start_accepted:
        return "stopped: the first step is too far from the reference; the policy is the one that the run began with"
    if progress.stopped_because == "kl":
        return f"stopped at {progress.accepted_kl:.2g} nats from the reference: the next step is too far"
    if progress.stopped_because == "peak":
        return "stopped past the peak of the independent judge's scores; the policy the judge liked best is kept"
    return "stopped: the score rises but the independent judge's falls; the policy the judge liked best is kept"


def kl_limit(config: KLConfig, start: float) -> float:
    """The lower of the hard stop and `start`, the run's first KL, plus what a run may add; nats a completion."""
    stop = math.inf if config.stop is None else config.stop
    return stop if config.rise is None else min(stop, start + config.rise)


def accept(job: Job, progress: Progress, measured: Measurement) -> None:
    """Keeps the policy that wrote this rollout: it lies under the stop, and it may be the judge's favourite so far."""
    progress.history["kl"].append(measured.kl)
    progress.history["scores"].append(measured.score)
    progress.accepted = copy_of(job.parameters)
    if measured.judge is not None:
        judge = progress.history["judge"]
        judge.append(measured.judge)
        if favourite(judge) == len(judge) - 1:
            progress.peak, progress.peak_update = progress.accepted, len(judge) - 1


def sample_prompts(job: Job, update: int) -> Rollout:
    """This process's completions of an update."""
    config, dealt = job.config.ppo, prompts_of_update(job, update)
    places = my_places(job)
    return roll_out(
        job.actor,
        [job.prompts[dealt[number]] for number in places],
        [job.prompt_ids[dealt[number]] for number in places],
        samples=config.samples,
        seeds=[
            derived_seed(job.config.seed, 3, update, number, sample)
            for number in places
            for sample in range(config.samples)
        ],
        settings=SamplingSettings(config.temperature, 1.0, job.config.max_completion_tokens),
    )


def observe_rollout(job: Job, rollout: Rollout) -> Observation:
    """What the frozen models say of it."""
    return observe(
        rollout,
        base=job.base,
        reference=job.reference,
        heads=(job.scorer.head, job.scorer.judge_head, *job.scorer.voters),
        critic_layer=job.critic.base_layer,
        temperature=job.config.ppo.temperature,
        max_tokens=2 * job.config.ppo.micro_tokens,
    )


# --- the algorithm -----------------------------------------------------------------------------------------------


class PolicyLoss(NamedTuple):
    """Sums over tokens: the loss, and what it says about the step."""

    loss: Float[Tensor, ""]
    approx_kl: Float[Tensor, ""]
    clipped: Float[Tensor, ""]
    ratio: Float[Tensor, ""]


def policy_loss(
    logprobs: Float[Tensor, " token"],
    old_logprobs: Float[Tensor, " token"],
    advantages: Float[Tensor, " token"],
    clip: float,
) -> PolicyLoss:
    """max(-A rho, -A clip(rho, 1 +- clip)), rho = pi / pi_old, summed  (1707.06347, eq. 7; Part I, eq. 14)."""
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + clip)
    with torch.no_grad():
        approx_kl = (ratio - 1 - log_ratio).sum()  # k3 (Schulman): never negative, E[k3] = KL
        clipped = (bounded > plain).sum().to(plain.dtype)
    return PolicyLoss(torch.maximum(plain, bounded).sum(), approx_kl, clipped, ratio.detach().sum())


def adapted_kl_coef(coef: float, kl: float, *, target: float, share: float) -> float:
    """beta (1 + clip(KL / target - 1, +-0.2) n / horizon), `share` = n / horizon  (Ziegler et al. 1909.08593, 2.2).

    An update of more than a horizon counts as one: of more than five it would turn the penalty into a prize.
    """
    return coef * (1 + min(max(kl / target - 1, -0.2), 0.2) * min(share, 1.0))


def learn(
    job: Job, progress: Progress, update: int, seen: Seen, clock: Clock, log: MetricsLog | None
) -> dict[str, float]:
    """One PPO update: rewards, advantages, then minibatch steps of policy and critic."""
    config, processes, (rollout, observation, _) = job.config.ppo, job.processes, seen
    rewards = rewards_of(job, progress, seen)
    if update == 1:
        warm_up_critic(job, progress, rollout, observation, rewards, log)
        clock.lap("warm_up")
    values, estimated = advantages_of(job, rollout, observation, rewards)
    clock.lap("critic")
    old_logprobs = rollout.logprobs
    if config.old_logprobs == "recompute":
        old_logprobs = rollout_logprobs(
            job.actor, rollout, temperature=config.temperature, max_tokens=config.micro_tokens
        )
    metrics = StepMetrics()
    for epoch in range(config.epochs):
        for minibatch in range(config.minibatches):
            packed = minibatch_layouts(job, rollout, minibatch)
            tokens = float(processes.sum(exact(sum(rollout.mask[layout.rows].sum() for layout in packed))))
            key = (update, epoch, minibatch)
            step = policy_step(job, rollout, packed, key, old_logprobs, estimated.advantages, tokens)
            clock.lap("policy")
            value = critic_step(
                job.critic,
                rollout,
                packed,
                features=observation.features,
                old_values=values,
                returns=estimated.returns,
                tokens=tokens,
                clip=config.loss.value_clip,
                max_grad_norm=config.max_grad_norm,
                processes=processes,
            )
            clock.lap("critic")
            metrics.add(step | {"ppo/loss/value": float(value.loss), "ppo/val/clipfrac": float(value.clipped)})
    clock.count("policy", policy_flops(job, rollout))
    clock.count("critic", critic_flops(job, rollout))
    return (
        metrics.means()
        | critic_metrics(values, estimated.returns, rollout.mask, processes)
        | {
            "objective/kl_coef": progress.kl_coef,
            "scores/running_mean": progress.moments.mean,
            "scores/running_std": progress.moments.std,
        }
    )


def rewards_of(job: Job, progress: Progress, seen: Seen) -> Float[Tensor, "batch time"]:
    """What each token is paid; the running moments take this rollout's scores in first."""
    config, (rollout, observation, measured) = job.config.ppo, seen

    # r~ = clip((r - mu) / sigma, +-delta), mu and sigma over the whole history                       (eq. 18)
    progress.moments = progress.moments.updated(measured.all_scores)
    score = measured.scores
    if config.score.is_normalised:
        score = normalised(score, progress.moments, config.score.clip)
    if config.score.no_eos_penalty is not None:
        score = torch.where(rollout.is_stopped, score, config.score.no_eos_penalty)

    # r_t = -eta (log pi - log pi_ref), + r~ at the last real token, or to each token its term of it  (eq. 19)
    terms = None
    if observation.token_scores is not None and config.score.is_dense is not False:
        std = progress.moments.std if config.score.is_normalised else 1.0
        terms = centred_terms(observation.token_scores, rollout.mask, std)
    return token_rewards(measured.token_kl, score, rollout.mask, progress.kl_coef, terms=terms)


def advantages_of(
    job: Job, rollout: Rollout, observation: Observation, rewards: Float[Tensor, "batch time"]
) -> tuple[Float[Tensor, "batch time"], Advantages]:
    """V of the state before each token, and A_t with the returns; A_t whitened over all tokens and cut, where asked."""
    config = job.config.ppo
    values = rollout_values(
        job.critic, rollout, observation.features, pad_id=job.pad_id, max_tokens=config.micro_tokens
    )
    estimated = gae(
        rewards,
        values,
        rollout.mask,
        gamma=config.advantage.gamma,
        lam=config.advantage.lam,
        is_bootstrapped=~rollout.is_stopped if config.advantage.truncation == "bootstrap" else None,
    )
    if config.advantage.is_whitened:
        estimated = estimated._replace(advantages=whitened(estimated.advantages, rollout.mask, job.processes))
    if (most := config.advantage.clip) is not None:
        estimated = estimated._replace(advantages=estimated.advantages.clamp(-most, most))
    return values[:, :-1], estimated


def critic_metrics(
    values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    processes: Processes,
) -> dict[str, float]:
    """How well the critic foresaw the returns, over the tokens of all processes."""
    count = processes.sum(exact(mask.sum()))
    means = processes.sum(torch.stack([exact(part[mask]).sum() for part in (values, returns)])) / count
    return {
        "ppo/val/var_explained": explained_variance(values, returns, mask, processes),
        "ppo/val/mean": float(means[0]),
        "ppo/returns/mean": float(means[1]),
    }


def policy_step(
    job: Job,
    rollout: Rollout,
    packed: Sequence[Layout],
    key: tuple[int, int, int],
    old_logprobs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    tokens: float,
) -> dict[str, float]:
    """One optimiser step of the policy on the minibatch that `key` names: its update, epoch and number.

    The loss is the mean over the tokens of all processes.
    """
    config, processes, (update, *_) = job.config.ppo, job.processes, key
    job.optimiser.zero_grad(set_to_none=True)
    sums = torch.zeros(5, device=rollout.tokens.device)
    for layout in packed:
        new, mask = completion_logprobs(
            job.actor,
            rollout,
            layout,
            temperature=config.temperature,
            has_entropy_gradient=config.loss.entropy > 0,
        )
        rows = layout.rows
        part = policy_loss(new.logprobs, old_logprobs[rows][mask], advantages[rows][mask], config.loss.clip)
        ((part.loss - config.loss.entropy * new.entropy.sum()) / tokens).backward()
        sums += torch.stack([part.loss.detach(), part.approx_kl, part.clipped, part.ratio, new.entropy.detach().sum()])
    ptx = 0.0
    if job.imitation is not None:
        job.actor.activate()
        ptx = job.imitation.backward(job.actor.policy, key, weight=config.loss.ptx, processes=processes)
    processes.sum_gradients(job.parameters.values())
    norm = clip_gradients(job.parameters.values(), config.max_grad_norm)
    for group in job.optimiser.param_groups:
        group["lr"] = job.config.ppo_rate * min(1.0, update / (config.warmup + 1))
    job.optimiser.step()
    loss, approx_kl, clipped, ratio, entropy = (processes.sum(sums) / tokens).tolist()
    return {
        "ppo/loss/policy": loss,
        "ppo/loss/ptx": ptx,
        "ppo/policy/approxkl": approx_kl,
        "ppo/policy/clipfrac": clipped,
        "ppo/policy/ratio": ratio,
        "ppo/policy/grad_norm": norm,
        "objective/entropy": entropy,
    }


def minibatch_layouts(job: Job, rollout: Rollout, minibatch: int) -> list[Layout]:
    """This process's packed batches of one minibatch; every process has its part of each."""
    places = [place for place, number in enumerate(my_places(job)) if number % job.config.ppo.minibatches == minibatch]
    return list(layouts(rollout, places, pad_id=job.pad_id, max_tokens=job.config.ppo.micro_tokens))


def warm_up_critic(
    job: Job,
    progress: Progress,
    rollout: Rollout,
    observation: Observation,
    rewards: Float[Tensor, "batch time"],
    log: MetricsLog | None,
) -> None:
    """Starts the critic, as the reward model where it can be one, and fits it to the first rewards-to-go."""
    config, critic, features = job.config.ppo, job.critic, observation.features
    if critic.is_standardised:
        states = rollout_states(critic, rollout, features, pad_id=job.pad_id, max_tokens=config.micro_tokens)
        standardise(critic.head, states[:, :-1], rollout.mask, job.processes)
    if critic.start is not None:
        scale = progress.moments if config.score.is_normalised else Moments()
        start_from_reward(critic.head, critic.start, mean=scale.mean, std=scale.std)
    no_values = torch.zeros_like(rewards[:, :1]).expand(-1, rewards.shape[1] + 1)
    to_go = gae(rewards, no_values, rollout.mask, gamma=config.advantage.gamma, lam=1)
    steps, explained = pretrain_critic(
        critic,
        rollout,
        list(layouts(rollout, range(len(rollout.groups)), pad_id=job.pad_id, max_tokens=config.micro_tokens)),
        features=features,
        returns=to_go.returns,
        config=config.critic,
        max_grad_norm=config.max_grad_norm,
        pad_id=job.pad_id,
        max_tokens=config.micro_tokens,
        processes=job.processes,
    )
    if log is not None:
        message = (
            f"critic pre-trained in {steps} of at most {config.critic.pretrain_steps} steps; it explains "
            f"{explained:.0%} of the variance of the returns it was fitted to"
        )
        log.append(0, config.updates, message=message)
