"""What each stage can be told: one frozen dataclass a stage, read from the run folder's `config.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A key is unknown, missing, of the wrong kind or out of range; the message names it."""


def chosen_rate(chosen: float | None, *, has_adapter: bool, adapter: float, full: float) -> float:
    """A learning rate that was set, or else the usual one of what is trained."""
    if chosen is not None:
        return chosen
    return adapter if has_adapter else full


@dataclass(frozen=True)
class RewardConfig:
    """How the reward model learns from rankings. The defaults are the recipe measured for hundreds of rankings."""

    train: Literal["auto", "probe", "lora", "full"] = "auto"  # auto: the probe below `auto_lora_rankings`
    auto_lora_rankings: int = 4000  # from this many training rankings on, `auto` tries LoRA after the probe
    backbone: str | None = None  # folder of a frozen model, an encoder say, that scores are read from; None: the base
    pooling: Literal["auto", "last", "mean"] = "auto"  # auto: cross-validation over prompts decides
    layer: int | None = None  # index into hidden_states; None: cross-validation decides
    l2: float | None = None  # ridge of the probe on standardised features; None: cross-validation decides
    blend: int = 4  # at most so many settings (pooling, layer, ridge) make up the score; 1: the best alone
    folds: int = 5
    held_out_share: float = 0.2  # of the prompts of which neither rankings.jsonl nor prompts.jsonl names a split
    judge_share: float = 0.3  # of the training prompts, kept from the reward model for an independent judge; 0: none
    ensemble: int = 5  # out-of-fold models that vote on preference strength; 0: none

    loss: Literal["pairwise", "plackett_luce"] = "pairwise"
    ties: Literal["drop", "half", "rao_kupper", "davidson"] = "half"
    tie_parameter: float = 0.5  # Rao-Kupper: log theta, above 0; Davidson: log nu
    margin: Literal["none", "strength", "votes"] = "none"
    label_smoothing: float = 0.0
    doubtful: Literal["keep", "soft", "flip", "drop"] = "keep"  # pairs the ensemble votes against
    centring: float = 0.0  # weight of (r_w + r_l)^2; 0.01 in the literature
    simcse: float = 0.0  # weight of the InfoNCE term of two dropout views
    metarm: float = 0.0  # ascent step on the spread of fresh policy samples

    epochs: int = 1
    learning_rate: float | None = None  # None: 1e-4 for an adapter, 2e-5 for full weights
    rankings_per_step: int = 8
    is_packed: bool = True  # the K completions of a prompt share its forward

    def __post_init__(self) -> None:
        if self.ties == "rao_kupper" and self.tie_parameter <= 0:  # theta 1 says that there are no ties
            raise ConfigError(f"reward.tie_parameter: must be above 0, not {self.tie_parameter}")

    def rate(self, *, has_adapter: bool) -> float:
        """The learning rate of the trunk that is tuned, an adapter or every weight."""
        return chosen_rate(self.learning_rate, has_adapter=has_adapter, adapter=1e-4, full=2e-5)


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: every linear layer but the output head gets two factors of rank `r`, scaled by alpha / r."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0


@dataclass(frozen=True)
class KLConfig:
    """What keeps the policy near its reference. KL is in nats a completion, summed over its tokens."""

    coef: float = 0.1
    target: float | None = None  # adaptive coefficient that steers to this KL; None: `coef` stays
    horizon: int = 480  # completions over which an adaptive coefficient may change by a fifth
    stop: float | None = 9.5  # hard stop: no policy beyond it is published, and no run starts from one
    rise: float | None = 5.0  # the same for what one run may add: later turns of the loop need room too
    backtracks: int = 3  # how often the step that went over a stop may be halved, to end just under it


@dataclass(frozen=True)
class ScoreConfig:
    """From score to reward: (r - mu) / sigma over the whole history, clipped (Part I, eq. 18)."""

    is_normalised: bool = True
    clip: float | None = 5.0
    is_dense: bool | None = None  # pay each token its term of a mean-pooled score; None: where a frozen probe has terms
    no_eos_penalty: float | None = None  # reward, in sigmas, of a completion cut before its end; None: scored as it is


@dataclass(frozen=True)
class AdvantageConfig:
    """Generalised advantage estimation over tokens (1506.02438)."""

    gamma: float = 1.0
    lam: float = 0.95
    is_whitened: bool = True
    clip: float | None = None  # advantages are cut to +- it, after whitening; None: they are not
    truncation: Literal["terminal", "bootstrap"] = "terminal"  # the value after a completion that was cut


@dataclass(frozen=True)
class LossConfig:
    """Weights and clips of the loss (1707.06347; Part I, eq. 14-17)."""

    clip: float = 0.2
    value_clip: float | None = 0.2
    entropy: float = 0.0
    ptx: float = 0.0  # weight of the cross-entropy on demonstrations.jsonl, or without them on the corpus


@dataclass(frozen=True)
class CriticConfig:
    """The critic: a linear `head` on the frozen trunk, its own `adapter` with a head, or a `full` model with one."""

    kind: Literal["head", "adapter", "full"] = "head"
    learning_rate: float | None = None  # None: 3e-3 for a head, 2e-4 for an adapter, 2e-5 for a full model
    pretrain_steps: int = 60  # at most this many steps on the first rollout, policy untouched
    pretrain_until: float = 0.3  # explained variance that is enough


@dataclass(frozen=True)
class PPOConfig:
    """One PPO-max run: `prompts` x `samples` completions an update, each learned from `epochs` times."""

    updates: int = 16
    prompts: int = 12
    samples: int = 4
    temperature: float = 1.0
    minibatches: int = 4
    epochs: int = 1
    micro_tokens: int = 1400  # tokens of one forward and backward: bounds the memory, changes no result
    learning_rate: float | None = None  # None: 3e-4 for an adapter, 1e-5 for full weights
    warmup_updates: int | None = None  # None: 0, or a tenth of the updates where the critic is not pre-trained
    max_grad_norm: float = 1.0
    reference: Literal["base", "parent"] = "base"
    old_logprobs: Literal["sampler", "recompute"] = "sampler"  # recompute: one more forward, first ratio 1
    checkpoint_every: int = 1  # updates; a kill loses at most so many
    judge_patience: int = 6  # updates over which a rising score with a falling judge stops the run
    has_peak_stop: bool = True  # stop where the curve fitted to the judge's scores over sqrt(KL) has passed its peak
    kl: KLConfig = KLConfig()
    score: ScoreConfig = ScoreConfig()
    advantage: AdvantageConfig = AdvantageConfig()
    loss: LossConfig = LossConfig()
    critic: CriticConfig = CriticConfig()

    @property
    def warmup(self) -> int:
        """Updates below the full learning rate: what a critic says that knows nothing yet is not to be followed far."""
        if self.warmup_updates is not None:
            return self.warmup_updates
        return 0 if self.critic.pretrain_steps else max(1, self.updates // 10)


@dataclass(frozen=True)
class EvaluateConfig:
    """How a candidate is compared with its parent and the base, on held-out prompts with the same seeds."""

    prompts: int = 48  # at most
    samples: int = 2  # completions a prompt
    temperature: float = 1.0
    shown: int = 12  # samples side by side in evaluation.json


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning on demonstrations.jsonl, loss on the assistant's turns."""

    epochs: int = 1
    learning_rate: float | None = None  # None: 2e-4 for an adapter, 2e-5 for full weights
    conversations_per_step: int = 8
    max_tokens: int = 512
    micro_tokens: int = 2048


@dataclass(frozen=True)
class PretrainConfig:
    """Self-supervised training on a corpus: the next token of every token, or an encoder's hidden tokens."""

    epochs: int = 1
    learning_rate: float | None = None  # None: 2e-4 for an adapter, 2e-5 for full weights
    block_tokens: int = 256
    blocks_per_step: int = 8


@dataclass(frozen=True)
class RunConfig:
    """A whole run folder's `config.json`."""

    base_model: str
    format: int = 1
    seed: int = 1
    trust_remote_code: bool = False
    parent: str | None = None  # folder of the parent checkpoint's adapter or weights; None: the base itself
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    max_prompt_tokens: int = 512  # of a longer prompt the end is kept, after BOS or CLS
    max_completion_tokens: int = 256  # what is sampled at most; a ranked completion is cut there too
    lora: LoraConfig | None = LoraConfig()  # None: full weights
    reward: RewardConfig = RewardConfig()
    ppo: PPOConfig = PPOConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    sft: SFTConfig = SFTConfig()
    pretrain: PretrainConfig = PretrainConfig()

    @property
    def ppo_rate(self) -> float:
        """The policy's learning rate: two orders of magnitude lie between an adapter's and that of full weights."""
        return self._rate(self.ppo.learning_rate, adapter=3e-4, full=1e-5)

    @property
    def sft_rate(self) -> float:
        return self._rate(self.sft.learning_rate, adapter=2e-4, full=2e-5)

    @property
    def pretrain_rate(self) -> float:
        return self._rate(self.pretrain.learning_rate, adapter=2e-4, full=2e-5)

    def _rate(self, chosen: float | None, *, adapter: float, full: float) -> float:
        return chosen_rate(chosen, has_adapter=self.lora is not None, adapter=adapter, full=full)

    @property
    def training_dtype(self) -> str:
        """`dtype`, but auto is float32 where the weights are trained: bf16 rounds small steps away."""
        return "float32" if self.lora is None and self.dtype == "auto" else self.dtype


class Range(NamedTuple):
    """The numbers a key may have, `most` included and `least` too unless it is open."""

    least: float = 0
    most: float = math.inf
    is_open: bool = False


COUNT, AMOUNT, ABOVE_0, SHARE, PART = Range(1), Range(0), Range(0, is_open=True), Range(0, 1), Range(0, 0.9)
RANGES = {
    "seed": Range(0, 2**62),  # generators take 64 bits, and stages count on from it
    "max_prompt_tokens": COUNT,
    "max_completion_tokens": COUNT,
    "lora.r": COUNT,
    "lora.alpha": COUNT,
    "lora.dropout": PART,
    "reward.auto_lora_rankings": AMOUNT,
    "reward.layer": AMOUNT,
    "reward.l2": ABOVE_0,
    "reward.blend": COUNT,
    "reward.folds": Range(2),
    "reward.held_out_share": PART,
    "reward.judge_share": PART,
    "reward.ensemble": AMOUNT,
    "reward.label_smoothing": Range(0, 0.49),  # at a half nothing is preferred, and beyond it what was ranked lower
    "reward.centring": AMOUNT,
    "reward.simcse": AMOUNT,
    "reward.metarm": AMOUNT,
    "reward.epochs": COUNT,
    "reward.learning_rate": AMOUNT,
    "reward.rankings_per_step": COUNT,
    "ppo.updates": COUNT,
    "ppo.prompts": COUNT,
    "ppo.samples": COUNT,
    "ppo.temperature": ABOVE_0,
    "ppo.minibatches": COUNT,
    "ppo.epochs": COUNT,
    "ppo.micro_tokens": COUNT,
    "ppo.learning_rate": AMOUNT,
    "ppo.warmup_updates": AMOUNT,
    "ppo.max_grad_norm": ABOVE_0,
    "ppo.checkpoint_every": COUNT,
    "ppo.kl.coef": AMOUNT,
    "ppo.kl.target": ABOVE_0,
    "ppo.kl.horizon": COUNT,
    "ppo.kl.stop": ABOVE_0,
    "ppo.kl.rise": ABOVE_0,
    "ppo.kl.backtracks": AMOUNT,
    "ppo.score.clip": ABOVE_0,
    "ppo.advantage.clip": ABOVE_0,
    "ppo.advantage.gamma": SHARE,
    "ppo.advantage.lam": SHARE,
    "ppo.loss.clip": ABOVE_0,
    "ppo.loss.value_clip": ABOVE_0,
    "ppo.loss.entropy": AMOUNT,
    "ppo.loss.ptx": AMOUNT,
    "ppo.critic.learning_rate": AMOUNT,
    "ppo.critic.pretrain_steps": AMOUNT,
    "ppo.critic.pretrain_until": Range(-math.inf, 1),
    "evaluate.prompts": COUNT,
    "evaluate.samples": COUNT,
    "evaluate.temperature": ABOVE_0,
    "evaluate.shown": AMOUNT,
    "sft.epochs": COUNT,
    "sft.learning_rate": AMOUNT,
    "sft.conversations_per_step": COUNT,
    "sft.max_tokens": COUNT,
    "sft.micro_tokens": COUNT,
    "pretrain.epochs": COUNT,
    "pretrain.learning_rate": AMOUNT,
    "pretrain.block_tokens": Range(2),  # the first has nothing before it to be told from
    "pretrain.blocks_per_step": COUNT,
}


MODEL, LENGTHS = ("base_model", "seed", "dtype"), ("max_prompt_tokens", "max_completion_tokens")
# The keys and groups of keys that each stage reads. PPO's last two are for its ptx term.
READ_BY = {
    "pretrain": (*MODEL, "parent", "lora", "pretrain"),
    "sft": (*MODEL, "parent", "lora", "sft"),
    "reward": (*MODEL, *LENGTHS, "lora", "reward"),
    "ppo": (*MODEL, *LENGTHS, "parent", "lora", "ppo", "sft.max_tokens", "pretrain.block_tokens"),
    "evaluate": (*MODEL, *LENGTHS, "parent", "evaluate"),
}
# May still change once the stage has begun: its state knows them, and what others of them made is made anew.
MADE_ANEW = {"reward": LENGTHS, "evaluate": (*LENGTHS, "evaluate.samples")}
COST_ALONE = frozenset({"sft.micro_tokens", "ppo.micro_tokens", "ppo.checkpoint_every"})  # memory or time, no result

PTX_ALONE = frozenset({"sft.max_tokens", "pretrain.block_tokens"})  # of PPO's, read where ppo.loss.ptx is not 0


def changed_keys(stage: str, before: RunConfig, now: RunConfig) -> list[str]:
    """The keys that decide a stage's product and have another value now."""
    unread = COST_ALONE
    if stage == "ppo" and before.ppo.loss.ptx == now.ppo.loss.ptx == 0:
        unread |= PTX_ALONE
    changed = (key for key in _differing(before, now) if key not in unread)
    return [key for key in changed if any(f"{key}.".startswith(f"{read}.") for read in READ_BY[stage])]


def _differing(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if not (is_dataclass(before) and is_dataclass(now)):
        if before != now:
            yield key
        return
    prefix = f"{key}." if key else ""
    for field in fields(before):
        yield from _differing(getattr(before, field.name), getattr(now, field.name), prefix + field.name)


def read_config(path: Path) -> RunConfig:
    """The run's configuration; raises `ConfigError` naming the key at the first thing that is not understood."""
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path.name} is not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8: {error.reason} at byte {error.start + 1}") from error
    config = parse(RunConfig, record)
    if config.format != 1:
        raise ConfigError(f"format: this program reads format 1, not {config.format}")
    return config


def parse(kind: type, record: Any, key: str = "") -> Any:
    """A dataclass from a JSON object: absent keys take their defaults; raises `ConfigError` for what does not fit."""
    if not isinstance(record, dict):
        raise ConfigError(f"{key or 'config.json'}: must be an object, not {record!r}")
    hints = get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name in record:
        if name not in hints:
            raise ConfigError(f"{prefix}{name}: unknown key; known are {', '.join(hints)}")
    for field in fields(kind):
        if field.default is MISSING and field.name not in record:
            raise ConfigError(f"{prefix}{field.name}: is missing")
    return kind(**{name: _value(hints[name], value, prefix + name) for name, value in record.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in choices:
            raise ConfigError(f"{key}: must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value
    if type(None) in choices:
        hint = next(choice for choice in choices if choice is not type(None))
        return None if value is None else _value(hint, value, key)
    if is_dataclass(hint):
        return parse(hint, value, key)
    if type(value) is not hint and not (hint is float and type(value) is int):
        raise ConfigError(f"{key}: must be {_NAMES[hint]}, not {value!r}")
    if hint in (int, float):
        _check_range(value, key)
    return float(value) if hint is float else value


def _check_range(value: float, key: str) -> None:
    least, most, is_open = RANGES.get(key, Range(-math.inf))
    if not math.isfinite(value):
        raise ConfigError(f"{key}: must be a finite number, not {value}")
    if is_open and value <= least:
        raise ConfigError(f"{key}: must be above {least}, not {value}")
    if value < least:
        raise ConfigError(f"{key}: must be at least {least}, not {value}")
    if value > most:
        raise ConfigError(f"{key}: must be at most {most}, not {value}")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
