"""The `reward` stage: rankings in, a reward model, its judge and its report out.

    python -m trainer.rlhf reward RUN_FOLDER

1. Rankings are split by prompt: to learn from, for an independent judge, held out.
2. Features of the frozen base, or of `reward.backbone`; cross-validation over prompts chooses poolings, layers and
   ridges; probes are fitted and blended.
3. Models that did not see a pair vote on it: doubtful pairs are listed, and treated as the configuration says.
4. Where told to (or, by `auto`, where rankings are many and it wins) the trunk is fine-tuned from the probe on.
5. The report, measured on the held-out prompts, is written last.

Texts and features stay on disk and are read where they are needed. What grows in memory with a ranking is its pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.rlhf.checkpoint import sha256_of
from trainer.rlhf.config import RewardConfig, RunConfig
from trainer.rlhf.data import Ranking, prompt_key, read_prompts, read_rankings
from trainer.rlhf.doubts import Votes, mend, out_of_fold_votes, strength_margin, strengths, voting_margin
from trainer.rlhf.duplicates import near_duplicates
from trainer.rlhf.feature_rows import BLOCK_ROWS
from trainer.rlhf.folder import RunFolder, StageError, StopSignal, write_json
from trainer.rlhf.inputs import key_of, settings_of, state_of
from trainer.rlhf.journal import Journal
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import Pairs, folds_of, has_preference, pairs_of
from trainer.rlhf.policy import Policy, load_policy
from trainer.rlhf.probe import Choice, choose, difference_scale, fit_blend, pair_accuracy
from trainer.rlhf.processes import Processes, join_processes
from trainer.rlhf.ranking_file import RankingFile, deal_prompts, split_by_prompt
from trainer.rlhf.reward_features import (
    SEARCH_RANKINGS,
    Encoded,
    FeatureReader,
    Key,
    Part,
    chunks_of,
    group_of,
    sample_of,
)
from trainer.rlhf.reward_head import Reading, RewardHead, centred, score_pooled
from trainer.rlhf.reward_model import RewardModel, save_reward_model
from trainer.rlhf.reward_plots import draw_plots
from trainer.rlhf.reward_report import Judged, build_report, length_sign
from trainer.rlhf.reward_tuning import Lesson, make_trainee, steps_done, steps_of, tune
from trainer.rlhf.versions import versions

VALIDATION_FOLDS = 10  # one of which judges, by `auto`, whether tuning wins
DOUBTFUL_LISTED = 200


class Split(NamedTuple):
    """Rankings to learn from, to train the judge on (maybe none), held out; no prompt is in two of them."""

    learning: Sequence[Ranking]
    judging: Sequence[Ranking]
    held_out: Sequence[Ranking]


class Probed(NamedTuple):
    """A part of the rankings and all that was learned from it on frozen features."""

    part: Part
    choice: Choice
    pairs: Pairs  # as labelled
    votes: Votes | None
    lesson: Pairs  # with doubtful pairs treated
    head: RewardHead

    @property
    def scores(self) -> Float[Tensor, " completion"]:
        return scores_of(self.head, self.part)


def train_reward(folder: RunFolder, stop: StopSignal | None = None) -> None:
    """Trains the reward model of a run folder; `reward/report.json` is written last.

    Raises `DataError` for a line that cannot be read, `StageError` where there is too little to learn from.
    """
    config, processes, splits = folder.config, join_processes(), prompt_splits(folder)
    split = split_rankings(RankingFile(folder.path / "rankings.jsonl"), config, splits)
    base = load_policy(config.base_model, dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    journal = Journal(folder.log("reward"), stop or StopSignal(), is_writing=processes.is_first)
    kind = kind_of(config, len(split.learning))
    trunk = base if kind != "backbone" else load_backbone(config)
    state = state_of(folder.stage("reward") / "state", inputs_key(folder, config, splits), processes)
    readers = {"learning": FeatureReader(trunk, config, state, journal, processes)}
    readers["judging"] = readers["learning"] if trunk is base else judge_reader(base, config, state, journal, processes)
    steps = steps_of(len(split.learning), config.reward) if kind in ("lora", "full") else 0
    tuned_steps = steps_done(state / "tuning")
    done = readers["learning"].done + (1 + tuned_steps if tuned_steps else 0)
    journal.plan(planned_chunks(split, trunks=1 if trunk is base else 2) + steps + 2, done=done)

    learned, judged, held_out = read_and_probe(readers, split, config)
    best = learned.choice.candidates[0]
    journal.note(
        message=f"chosen by cross-validation: {len(learned.head.readings)} readings; "
        f"best alone {best.pooling} pooling, layer {best.layer}, ridge {best.l2:g}"
    )
    kind_of_probe = "probe" if trunk is base else kind
    voters = voters_of(learned)
    model = RewardModel(kind_of_probe, trunk, base, learned.head, judged and judged.head, {}, voters)
    if kind in ("lora", "full"):
        model = tuned(model, learned, kind, folder, journal, processes)
    if processes.is_first:
        save_reward_model(model, folder.stage("reward") / "model", {"seed": config.seed, "versions": versions()})
        report = report_on(model, learned, judged, held_out, folder)
        measured = {"reward/accuracy": report["accuracy"]["value"]} if report["accuracy"] else None
        journal.note(measured, message=report["verdict"])
        write_json(folder.product("reward"), report)
    processes.barrier()


def inputs_key(folder: RunFolder, config: RunConfig, splits: Mapping[str, str]) -> str:
    """The key of all that features and tuning are made of; texts count as they are, not by when they were written."""
    texts = [folder.path / "rankings.jsonl"] + [folder.path / "unranked.jsonl"] * (config.reward.metarm > 0)
    digests = [sha256_of(path) for path in texts if path.exists()]
    models = [Path(name) for name in (config.base_model, config.reward.backbone) if name is not None]
    return key_of("reward", settings_of("reward", config), digests, sorted(splits.items()), *models)


def prompt_splits(folder: RunFolder) -> dict[str, str]:
    """What the run's prompts.jsonl, if it has one, says of its prompts, by their ids and their contents.

    Of a prompt on both sides it says held out: `evaluate` asks it.
    """
    path = folder.path / "prompts.jsonl"
    prompts = [prompt for prompt in read_prompts(path) if prompt.split] if path.exists() else []
    prompts.sort(key=lambda prompt: prompt.split == "held_out")
    return {key: prompt.split for prompt in prompts for key in (prompt.id, prompt_key(prompt.messages))}


def split_rankings(rankings: Sequence[Ranking], config: RunConfig, splits: Mapping[str, str] | None = None) -> Split:
    """The three parts. With fewer than two prompts for a judge there is none, and all are learned from."""
    if not rankings:
        raise StageError("rankings.jsonl has no ranking: rank some prompts first")
    train, held_out = split_by_prompt(
        rankings, held_out_share=config.reward.held_out_share, seed=config.seed, splits=splits or {}
    )
    if not held_out:
        if config.reward.held_out_share:
            raise StageError("all rankings are of one prompt, and none is left to measure on: rank more prompts")
        raise StageError(
            "no prompt is held out to measure on: set reward.held_out_share above 0, or the split of some to “held_out”"
        )
    learning, judging = deal_prompts(train, share=config.reward.judge_share, seed=config.seed + 1)
    if not (can_teach(learning) and can_teach(judging)):
        learning, judging = train, []
    if not can_teach(learning):
        raise StageError(
            "rankings with a preference, and a weight above 0, are needed for at least two training prompts: "
            "rank more prompts"
        )
    return Split(learning, judging, held_out)


def can_teach(rankings: Sequence[Ranking]) -> bool:
    """Whether two prompts have a ranking with a preference."""
    decided = (ranking.prompt_id for ranking in rankings if has_preference(ranking))
    first = next(decided, None)
    return any(prompt != first for prompt in decided)


def kind_of(config: RunConfig, rankings: int) -> str:
    """probe, lora or full: what the configuration says, and for `auto` what the number of rankings allows.

    With a backbone of its own, a probe on it: `backbone`.
    """
    if config.reward.backbone is not None:
        if config.reward.train in ("lora", "full"):
            raise StageError("reward.backbone stays frozen: set reward.train to auto or probe")
        return "backbone"
    if config.reward.train != "auto":
        return config.reward.train
    if rankings < config.reward.auto_lora_rankings:
        return "probe"
    return "lora" if config.lora else "full"


def load_backbone(config: RunConfig) -> Policy:
    """The frozen model that the reward model reads in the base's place."""
    options = {"dtype": config.dtype, "trust_remote_code": config.trust_remote_code}
    return load_policy(config.reward.backbone, can_be_encoder=True, **options)


def judge_reader(base: Policy, config: RunConfig, state: Path, journal: Journal, processes: Processes) -> FeatureReader:
    """Reads the base beside a backbone, whose layer `reward.layer` is: the judge searches for one."""
    return FeatureReader(base, replace(config, reward=replace(config.reward, layer=None)), state, journal, processes)


def planned_chunks(split: Split, *, trunks: int) -> int:
    """Chunks of features to read: all rankings (held-out ones by each trunk), before them a sample of many."""
    chunks = sum(chunks_of(len(rankings)) for rankings in split)
    if trunks == 2 and split.judging:
        chunks += chunks_of(len(split.held_out))
    if sum(map(len, split)) > SEARCH_RANKINGS:
        chunks += sum(chunks_of(min(len(part), SEARCH_RANKINGS)) for part in (split.learning, split.judging))
    return chunks


def read_and_probe(
    readers: Mapping[str, FeatureReader], split: Split, config: RunConfig
) -> tuple[Probed, Probed | None, dict[str, Part]]:
    """Features of all parts, and the probes of the reward model and its judge, each chosen on its own prompts.

    The held-out part is as each of the two reads it.
    """
    trained = {"learning": split.learning} | ({"judging": split.judging} if split.judging else {})
    seeds = {"learning": config.seed, "judging": config.seed + 1}
    if sum(map(len, split)) <= SEARCH_RANKINGS:
        parts = {name: readers[name].read(name, rankings, readers[name].keys) for name, rankings in trained.items()}
        choices = {name: search(part, config.reward, seeds[name]) for name, part in parts.items()}
        keys = {name: readers[name].keys for name in trained}
    else:
        samples = {name: sample_of(rankings, config.seed) for name, rankings in trained.items()}
        searched = {
            name: readers[name].read(f"{name}.sample", sample, readers[name].keys) for name, sample in samples.items()
        }
        choices = {name: search(part, config.reward, seeds[name]) for name, part in searched.items()}
        keys = {name: sorted({member.reading for member in choice.blend}) for name, choice in choices.items()}
        parts = {name: readers[name].read(name, rankings, keys[name]) for name, rankings in trained.items()}
    held_out = read_held_out(readers, split.held_out, keys)
    probed = {name: probe(part, choices[name], config.reward, seeds[name]) for name, part in parts.items()}
    return probed["learning"], probed.get("judging"), held_out


def read_held_out(
    readers: Mapping[str, FeatureReader], rankings: Sequence[Ranking], keys: Mapping[str, Sequence[Key]]
) -> dict[str, Part]:
    """The held-out part under the name of each that was trained; read once where both read the same model."""
    if readers["learning"] is readers["judging"]:
        part = readers["learning"].read("held_out", rankings, sorted({key for own in keys.values() for key in own}))
        return dict.fromkeys(keys, part)
    names = {"learning": "held_out", "judging": "held_out.judge"}
    return {name: readers[name].read(names[name], rankings, own) for name, own in keys.items()}


def search(part: Part, config: RewardConfig, seed: int) -> Choice:
    """Settings of the probe, by cross-validation over the part's prompts."""
    pairs = pairs_of(part.rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    folds = folds_of(pairs, folds=config.folds, seed=seed)
    return choose(part.features, pairs, folds, l2=config.l2, most=config.blend)


def probe(part: Part, choice: Choice, config: RewardConfig, seed: int) -> Probed:
    """Votes on the part's pairs, and the probe on all of them, its training scores centred."""
    pairs = pairs_of(part.rankings, ties=config.ties, label_smoothing=config.label_smoothing)
    votes, lesson = None, pairs
    if config.ensemble:
        folds = folds_of(pairs, folds=config.folds, seed=seed)
        votes = out_of_fold_votes(part.features, pairs, folds, choice.blend, members=config.ensemble, seed=seed)
        lesson = mend(pairs, votes, config.doubtful)
    head = probe_head(part, choice, lesson)
    return Probed(part, choice, pairs, votes, lesson, centred(head, scores_of(head, part)))


def probe_head(part: Part, choice: Choice, lesson: Pairs) -> RewardHead:
    """The blend's probes, fitted on these pairs, as one head."""
    weights = fit_blend(part.features, choice.blend, lesson)
    readings = tuple(Reading(*reading) for reading in weights)
    return RewardHead(readings, torch.stack([weights[reading] for reading in readings]).float())


def voters_of(probed: Probed) -> tuple[RewardHead, ...]:
    """Models bootstrapped from the same rankings, as heads beside the probe: where they part, nobody has ranked."""
    models = probed.votes.voters if probed.votes else ()
    weights = [torch.stack([model[reading] for reading in probed.head.readings]).float() for model in models]
    return tuple(probed.head._replace(weight=weight, bias=0.0) for weight in weights)


def scores_of(head: RewardHead, part: Part) -> Float[Tensor, " completion"]:
    """The head's score of every completion of a part."""
    rows = torch.arange(len(part.lengths)).split(BLOCK_ROWS)
    return torch.cat([score_pooled(head, {key: part.features[key][own] for key in head.readings}) for own in rows])


def tuned(
    model: RewardModel, learned: Probed, kind: str, folder: RunFolder, journal: Journal, processes: Processes
) -> RewardModel:
    """The reward model with its trunk trained from the probe on.

    By `auto` a tenth of the prompts only judges, and the probe stays unless tuning gets more of their pairs right.
    """
    config = folder.config
    lora = config.lora if kind == "lora" else None
    if kind == "lora" and lora is None:
        raise StageError("reward.train is lora, but lora is null: give lora settings or choose full")
    is_judging = torch.zeros(len(learned.pairs.winner), dtype=torch.bool)
    if config.reward.train == "auto":
        is_judging = folds_of(learned.pairs, folds=VALIDATION_FOLDS, seed=config.seed) == 0
    lesson = learned.lesson._replace(weight=torch.where(is_judging, 0.0, learned.lesson.weight))
    start = learned.head
    if is_judging.any():
        start = start._replace(weight=probe_head(learned.part, learned.choice, lesson.where(~is_judging)).weight)

    trunk = model.base
    if kind == "full":
        trunk = load_policy(config.base_model, dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    scale = torch.stack(
        [difference_scale(learned.part.features[each], learned.pairs) for each in start.readings]
    ).float()
    trainee = make_trainee(trunk, start, lora, scale, seed=config.seed)
    groups = Encoded(learned.part.rankings, trunk, config)
    unranked = unranked_groups(folder, trunk, config) if config.reward.metarm else ()
    head = tune(
        trainee,
        Lesson(learned.part.rankings, groups, lesson, margin(learned, config.reward), unranked),
        config.reward,
        seed=config.seed,
        state=folder.stage("reward") / "state" / "tuning",
        journal=journal,
        processes=processes,
    )
    trunk.model.requires_grad_(False)
    trunk.use_adapter(None)
    candidate = model._replace(kind=kind, trunk=trunk, head=head, voters=())
    measured = groups if is_judging.any() else Encoded(groups.rankings[:SEARCH_RANKINGS], trunk, config)
    scores = candidate.score_groups(measured)
    if is_judging.any():
        judged = learned.pairs.where(is_judging)
        if pair_accuracy(scores, judged) <= pair_accuracy(scores_of(start, learned.part), judged):
            return model
    return candidate._replace(head=centred(head, scores))


def margin(learned: Probed, config: RewardConfig) -> Float[Tensor, " pair"] | None:
    """What is asked of each pair's score difference beyond its sign."""
    if config.margin == "strength":
        return strength_margin(learned.pairs, learned.part.rankings)
    if config.margin == "votes":
        if learned.votes is None:
            raise StageError("reward.margin is votes, but reward.ensemble is 0: nobody votes")
        return voting_margin(learned.votes)
    return None


def without_effect(config: RunConfig, kind: str) -> list[str]:
    """The switches that were set and that a reward model of this kind, or its loss, does not read.

    A probe's loss is always pairwise: so the judge, and the probe that tuning starts from, read `ties`,
    `label_smoothing` and `doubtful` where a loss over whole orders does not.
    """
    reward, usual = config.reward, RewardConfig()
    is_tuned, is_pairwise = kind in ("lora", "full"), reward.loss == "pairwise"
    has_own_ties = reward.ties in ("rao_kupper", "davidson")
    is_read = {
        "loss": is_tuned,
        "ties": is_pairwise if is_tuned else not has_own_ties,
        "tie_parameter": is_tuned and is_pairwise and has_own_ties,
        "margin": is_tuned and is_pairwise,
        "label_smoothing": is_pairwise or not is_tuned,
        "doubtful": reward.ensemble > 0 and (is_pairwise or not is_tuned or reward.doubtful == "drop"),
        "centring": is_tuned and is_pairwise,
        "simcse": is_tuned,
        "metarm": is_tuned,
        "epochs": is_tuned,
        "learning_rate": is_tuned,
        "rankings_per_step": is_tuned,
    }
    unread = [name for name, is_so in is_read.items() if not is_so and getattr(reward, name) != getattr(usual, name)]
    has_views = kind == "lora" and reward.simcse > 0
    is_idle = config.lora is not None and config.lora.dropout > 0 and not has_views
    return [f"reward.{name}" for name in unread] + ["lora.dropout"] * is_idle


def unranked_groups(folder: RunFolder, trunk: Policy, config: RunConfig) -> list[Group]:
    """Fresh samples of the policy for MetaRM: `unranked.jsonl`, lines of rankings.jsonl whose ranks are all 1."""
    path = folder.path / "unranked.jsonl"
    if not path.exists():
        raise StageError("reward.metarm needs fresh samples of the policy in unranked.jsonl")
    return [group_of(ranking, trunk, config) for ranking in read_rankings(path)]


def report_on(
    model: RewardModel, learned: Probed, judged: Probed | None, parts: Mapping[str, Part], folder: RunFolder
) -> dict[str, Any]:
    """The report with its plots: the reward model and its judge on the held-out prompts, and the doubtful pairs."""
    config, held_out = folder.config, parts["learning"]
    if not model.is_tuned:
        scores = scores_of(model.head, held_out)
    else:
        scores = model.score_groups(Encoded(held_out.rankings, model.trunk, config))
    measured = Judged(held_out.rankings, scores.numpy(), held_out.lengths.numpy())
    sign = length_sign(learned.pairs, learned.part.lengths.numpy())
    report = build_report(measured, length_sign=sign, seed=config.seed) | {
        "kind": model.kind,
        "without_effect": without_effect(config, model.kind),
        "chosen": learned.choice.candidates[0]._asdict(),
        "candidates": [candidate._asdict() for candidate in learned.choice.candidates],
        "blend": [member._asdict() for member in learned.choice.blend],
        "training_rankings": len(learned.part.rankings),
        "cut_share": float((learned.part.lengths >= config.max_completion_tokens).double().mean()),
        "training_range": [model.head.low, model.head.high],
    }
    if judged is not None:
        theirs = measured._replace(scores=scores_of(judged.head, parts["judging"]).numpy())
        report["judge"] = (build_report(theirs, length_sign=sign, seed=config.seed)["accuracy"] or {}) | {
            "training_rankings": len(judged.part.rankings),
            "chosen": judged.choice.candidates[0]._asdict(),
            "blend": [member._asdict() for member in judged.choice.blend],
        }
    trained = [probed for probed in (learned, judged) if probed is not None]
    if config.reward.ensemble:
        report["strength"] = strengths([(p.part.rankings, p.pairs, p.votes) for p in trained], limit=DOUBTFUL_LISTED)
    report["near_duplicates"] = near_duplicates([probed.part.rankings for probed in trained], held_out.rankings)
    report["plots"] = draw_plots(folder.stage("reward") / "plots", measured, report, seed=config.seed)
    return report
