"""A PPO run around its algorithm: the models it holds, the state it can resume from, the product it publishes."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.rlhf.advantage import Moments
from trainer.rlhf.checkpoint import copy_parameters, load_state, optimiser_tensors, restore_optimiser, save_state
from trainer.rlhf.config import RunConfig
from trainer.rlhf.critic import Critic, ValueHead, make_critic
from trainer.rlhf.data import Prompt, prompt_key, read_prompts
from trainer.rlhf.encoding import encode_prompts
from trainer.rlhf.experience import Actor
from trainer.rlhf.folder import RunFolder, StageError
from trainer.rlhf.imitation import Imitation, imitated, load_imitation
from trainer.rlhf.inputs import check_inputs, contents_of, models_of
from trainer.rlhf.optimiser import MasterAdamW
from trainer.rlhf.overoptimisation import favourite, fit_gold
from trainer.rlhf.policy import Policy, check_parent, load_policy
from trainer.rlhf.processes import Processes, join_processes
from trainer.rlhf.reward_model import ADAPTER, RewardModel
from trainer.rlhf.reward_split import held_out_in_rankings, prompt_splits
from trainer.rlhf.rollout import derived_seed
from trainer.rlhf.scoring import Scorer, load_scorer, scorer_inputs
from trainer.rlhf.trunk import depth
from trainer.rlhf.versions import versions

# The reward models whose trunk a critic of each kind can copy: the frozen base lies under all of them.
COPIED = {"head": ("probe",), "adapter": ("probe", "lora"), "full": ("probe", "full")}
MEASURED = ("kl", "scores", "judge")  # kept for every update: the over-optimisation watch reads them


class Job(NamedTuple):
    """Everything a PPO run holds in memory."""

    config: RunConfig
    actor: Actor
    reference: Actor
    base: Policy  # the frozen base that reward model, judge and critic read
    scorer: Scorer
    critic: Critic
    parameters: dict[str, nn.Parameter]  # the policy's
    optimiser: torch.optim.Optimizer
    prompts: list[Prompt]
    prompt_ids: list[list[int]]
    imitation: Imitation | None
    processes: Processes

    @property
    def pad_id(self) -> int:
        return self.base.pad_id


@dataclass
class Progress:
    """What changes from update to update, beside the tensors that optimisers change in place."""

    update: int = 0
    kl_coef: float = 0.0
    moments: Moments = Moments()
    history: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURED})
    stopped_because: str | None = None
    accepted: dict[str, Tensor] = field(default_factory=dict)  # the policy of the last rollout under the KL stop
    peak: dict[str, Tensor] = field(default_factory=dict)  # the judge's favourite
    peak_update: int | None = None  # the updates behind it

    @property
    def accepted_kl(self) -> float:
        """Of the policy accepted last, nats a completion."""
        return self.history["kl"][-1]

    @property
    def is_start_accepted(self) -> bool:
        """Whether no step of the run was accepted: its policy is still the one it started with."""
        return len(self.history["kl"]) == 1


def prepare(folder: RunFolder, config: RunConfig, reward: str | None, reward_model: Path | None = None) -> Job:
    """Loads the models, adds what is trained, reads the prompts; nothing is drawn that a resumed run would not draw."""
    processes = join_processes()
    if config.ppo.prompts < config.ppo.minibatches * processes.world:
        raise StageError(
            f"ppo.prompts is {config.ppo.prompts}: too few for {config.ppo.minibatches} minibatches "
            f"(ppo.minibatches) in each of {processes.world} processes"
        )
    if config.ppo.judge_patience < 2:
        patience = config.ppo.judge_patience
        raise StageError(f"ppo.judge_patience is {patience}: the judge's noise is told from two updates at least")
    contents = contents_of(inputs_of(folder, config, reward, reward_model), processes)
    prompts, rankings_say_more = training_prompts(folder)
    if not rankings_say_more:
        contents.pop("rankings.jsonl")  # it may grow
    torch.manual_seed(config.seed)
    actor, reference, base = load_actors(config)
    scorer = load_scorer(folder, reward, base=base, reward_model=reward_model)
    if config.ppo.score.is_dense and (scorer.head is None or not scorer.head.has_terms):
        raise StageError("ppo.score.is_dense needs a reward model that is a mean-pooled head on the base")
    check_inputs(folder, "ppo", contents, processes)
    critic = build_critic(config, base, scorer.model)
    parameters = policy_parameters(actor)
    optimiser = MasterAdamW(parameters.values(), lr=config.ppo_rate, eps=1e-5, weight_decay=0.0)
    ids = encode_prompts(base.tokenizer, prompts, max_tokens=config.max_prompt_tokens)
    imitation = load_imitation(folder, actor.policy, config) if config.ppo.loss.ptx else None
    return Job(
        config, actor, reference, base, scorer, critic, parameters, optimiser, prompts, ids, imitation, processes
    )


def training_prompts(folder: RunFolder) -> tuple[list[Prompt], bool]:
    """The prompts of prompts.jsonl that neither it nor rankings.jsonl holds out, and whether the latter said more."""
    path = folder.path / "prompts.jsonl"
    splits, kept = prompt_splits(folder), held_out_in_rankings(folder)
    said = [(prompt, {prompt.id, prompt_key(prompt.messages)}) for prompt in read_prompts(path)]
    said = [(prompt, names) for prompt, names in said if "held_out" not in map(splits.get, names)]
    if not said:
        raise StageError("prompts.jsonl has no prompt of the split “train”")
    prompts = [prompt for prompt, names in said if not names & kept]
    if not prompts:
        raise StageError("rankings.jsonl holds out every prompt that prompts.jsonl gives to train on")
    return prompts, len(prompts) < len(said)


def inputs_of(folder: RunFolder, config: RunConfig, reward: str | None, reward_model: Path | None) -> dict[str, Path]:
    """What a run is made of beside its configuration, by name: a start, what scores, what is read."""
    texts = [folder.path / "prompts.jsonl", folder.path / "rankings.jsonl"]
    if config.ppo.loss.ptx and (source := imitated(folder)) is not None:
        texts.append(source)
    return models_of(config) | scorer_inputs(folder, reward, reward_model) | {path.name: path for path in texts}


def load_actors(config: RunConfig) -> tuple[Actor, Actor, Policy]:
    """Policy, reference and frozen base: with LoRA adapters of one model, with full weights models of their own."""
    check_parent(config)
    options = {"dtype": config.training_dtype, "trust_remote_code": config.trust_remote_code}
    base = load_policy(config.base_model, **options)
    has_parent_reference = config.ppo.reference == "parent" and config.parent is not None
    if config.lora is None:
        policy = load_policy(config.base_model, adapter=config.parent, **options)
        policy.model.requires_grad_(True)
        reference = load_policy(config.base_model, adapter=config.parent, **options) if has_parent_reference else base
        return Actor(policy, None), Actor(reference, None), base
    if config.parent is None:
        base.new_adapter("policy", config.lora, seed=config.seed)
    else:
        base.add_adapter("policy", config.parent)
    if has_parent_reference:
        base.copy_adapter("policy", "parent")
    return Actor(base, "policy"), Actor(base, "parent" if has_parent_reference else None), base


def policy_parameters(actor: Actor) -> dict[str, nn.Parameter]:
    """What PPO trains, by name: the adapter's tensors or every weight."""
    actor.activate()
    if actor.adapter is not None:
        return actor.policy.adapter_parameters(actor.adapter)
    return dict(actor.policy.model.named_parameters())


def build_critic(config: RunConfig, base: Policy, reward: RewardModel | None) -> Critic:
    """The critic of the wanted kind; where it can start as the reward model, on a copy of its trunk, at its layer."""
    kind, start = config.ppo.critic.kind, None
    if reward is not None and reward.head.is_value and reward.kind in COPIED[kind]:
        start = reward
    trunk = None
    if kind == "adapter":
        trunk = adapter_trunk(config, base, start)
    elif kind == "full":
        trunk = full_trunk(config, start)
    if start is not None:
        layer = start.head.layers[0]
    else:
        layer = (depth(base.model) + 1) // 2 if trunk is None else depth(base.model)
    head = ValueHead(base.model.config.hidden_size).to(base.device)
    return make_critic(config.ppo.critic, head, trunk, layer=layer, start=start and start.head)


def adapter_trunk(config: RunConfig, base: Policy, start: RewardModel | None) -> Actor:
    """An adapter of the base for the critic: a copy of the reward model's, or one that changes nothing yet."""
    if config.lora is None:
        raise StageError("ppo.critic.kind is adapter, but lora is null: choose head or full")
    if start is not None and start.kind == "lora":
        base.copy_adapter(ADAPTER, "critic")
    else:
        base.new_adapter("critic", config.lora, seed=derived_seed(config.seed, 2))
    return Actor(base, "critic")


def full_trunk(config: RunConfig, start: RewardModel | None) -> Actor:
    """A whole model for the critic, with the base's weights or a copy of the reward model's."""
    dtype = "float32" if config.dtype == "auto" else config.dtype
    policy = load_policy(config.base_model, dtype=dtype, trust_remote_code=config.trust_remote_code)
    if start is not None and start.kind == "full":
        copy_parameters(*(dict(each.model.named_parameters()) for each in (policy, start.trunk)))
    return Actor(policy, None)


def prompts_of_update(job: Job, update: int) -> list[int]:
    """Places of the update's prompts: the run deals through a fresh permutation of all of them in each epoch."""
    count, start = len(job.prompts), (update - 1) * job.config.ppo.prompts
    return [
        _permutation(count, derived_seed(job.config.seed, 1, place // count))[place % count]
        for place in range(start, start + job.config.ppo.prompts)
    ]


def my_places(job: Job) -> list[int]:
    """Numbers within the update of this process's prompts: every world-th of each minibatch."""
    config, processes = job.config.ppo, job.processes
    return [
        number
        for minibatch in range(config.minibatches)
        for number in list(range(minibatch, config.prompts, config.minibatches))[processes.rank :: processes.world]
    ]


@lru_cache(maxsize=2)  # an update may reach into the next epoch
def _permutation(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def resume(folder: RunFolder, job: Job) -> Progress:
    """The progress to go on from: what the newest state holds, put back into models and optimisers, or a start."""
    saved = load_state(folder.stage("ppo") / "state")
    if saved is None:
        return Progress(kl_coef=job.config.ppo.kl.coef)
    tensors, record = saved
    copy_parameters(job.parameters, tensors["policy"])
    copy_parameters(job.critic.parameters, tensors["critic"])
    copy_parameters(dict(job.critic.head.named_buffers()), tensors["critic_moments"])
    restore_optimiser(job.optimiser, tensors["policy_optimiser"])
    restore_optimiser(job.critic.optimiser, tensors["critic_optimiser"])
    return Progress(
        update=record["step"],
        kl_coef=record["kl_coef"],
        moments=Moments(**record["moments"]),
        history=record["history"],
        accepted={name: value.to(job.base.device) for name, value in tensors["accepted"].items()},
        peak={name: value.to(job.base.device) for name, value in tensors.get("peak", {}).items()},
        peak_update=peak_update_of(record),
    )


def peak_update_of(record: dict[str, Any]) -> int | None:
    """Which rollout's policy a state holds as the peak: one of an earlier version knows its KL, or not even that."""
    kl, judge = record["history"]["kl"], record["history"]["judge"]
    if "peak_update" in record:
        return record["peak_update"]
    return kl.index(record["peak_kl"]) if record.get("peak_kl") in kl else favourite(judge)


def save_progress(folder: RunFolder, job: Job, progress: Progress) -> None:
    """The whole state after an update, as the newest under `ppo/state/`."""
    tensors = {
        "policy": job.parameters,
        "critic": job.critic.parameters,
        "critic_moments": dict(job.critic.head.named_buffers()),
        "policy_optimiser": optimiser_tensors(job.optimiser),
        "critic_optimiser": optimiser_tensors(job.critic.optimiser),
        "accepted": progress.accepted,
    }
    if progress.peak:
        tensors["peak"] = progress.peak
    record = {
        "kl_coef": progress.kl_coef,
        "moments": progress.moments._asdict(),
        "history": progress.history,
        "peak_update": progress.peak_update,
    }
    save_state(folder.stage("ppo") / "state", progress.update, tensors, record)


def copy_of(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def publish(folder: RunFolder, job: Job, progress: Progress) -> None:
    """Writes `ppo/policy/`: the accepted policy, or the judge's favourite where the judge's scores ended the run.

    `updates` in its manifest are those behind this policy, a shortened one among them; 0 is the run's start.
    """
    is_refused = progress.stopped_because in ("judge", "peak")
    copy_parameters(job.parameters, progress.peak if is_refused else progress.accepted)
    history = progress.history
    updates = progress.peak_update if is_refused else len(history["kl"]) - 1
    fit = fit_gold(history["kl"], history["judge"]) if history["judge"] else None
    record: dict[str, Any] = {
        "base": job.config.base_model,
        "parent": job.config.parent,
        "seed": job.config.seed,
        "versions": versions(),
        "kl": history["kl"][updates],
        "updates": updates,
        "stopped_because": progress.stopped_because or "complete",
        "gold_fit": fit._asdict() if fit else None,
        "history": history,
    }
    path = folder.stage("ppo") / "policy"
    if job.actor.adapter is None:
        job.actor.policy.save_weights(path, record)
    else:
        job.actor.policy.save_adapter(job.actor.adapter, path, record)


class Clock:
    """Seconds of each phase of an update, and the FLOPs it asked for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.flops: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Books the time since the last lap on a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def count(self, phase: str, flops: float) -> None:
        self.flops[phase] = self.flops.get(phase, 0.0) + flops

    def shares(self, peak: float) -> dict[str, float]:
        """FLOP/s of each phase whose FLOPs were counted, as a share of `peak`."""
        return {
            f"flops_share/{phase}": flops / self.seconds[phase] / peak
            for phase, flops in self.flops.items()
            if self.seconds.get(phase)
        }

    def speeds(self, tokens: int) -> dict[str, float]:
        """Seconds of each phase, and completion tokens per second of each and of the whole update."""
        total = sum(self.seconds.values())
        return (
            {f"seconds/{phase}": seconds for phase, seconds in self.seconds.items()}
            | {f"tokens_per_second/{phase}": tokens / seconds for phase, seconds in self.seconds.items() if seconds}
            | {"tokens_per_second/update": tokens / total}
        )


class StepMetrics:
    """Means over an update's minibatch steps."""

    def __init__(self) -> None:
        self._steps: list[dict[str, float]] = []

    def add(self, step: dict[str, float]) -> None:
        self._steps.append(step)

    def means(self) -> dict[str, float]:
        """Each metric's mean; `ppo/first/…` are those of the first step, where ratio is 1 and KL 0 if all is well."""
        names = self._steps[0]
        first = {f"ppo/first/{name.rsplit('/', 1)[1]}": names[name] for name in FIRST}
        return {name: sum(step[name] for step in self._steps) / len(self._steps) for name in names} | first


FIRST = ("ppo/policy/approxkl", "ppo/policy/clipfrac", "ppo/policy/ratio")
