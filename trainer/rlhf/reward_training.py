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

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trainer.rlhf.checkpoint import sha256_of
from trainer.rlhf.config import RewardConfig, RunConfig
from trainer.rlhf.data import Ranking, prompt_key, read_rankings
from trainer.rlhf.doubts import strength_margin, strengths, voting_margin
from trainer.rlhf.duplicates import near_duplicates
from trainer.rlhf.folder import RunFolder, StageError, StopSignal, write_json
from trainer.rlhf.inputs import keep_inputs, key_of, settings_of, state_of
from trainer.rlhf.journal import Journal
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import folds_of
from trainer.rlhf.policy import Policy, load_policy
from trainer.rlhf.probe import difference_scale, pair_accuracy
from trainer.rlhf.processes import Processes, join_processes
from trainer.rlhf.ranking_file import RankingFile
from trainer.rlhf.reward_features import Encoded, FeatureReader, Part, group_of, refuse_long_rankings, sample_of
from trainer.rlhf.reward_head import centred
from trainer.rlhf.reward_loss import MOST_TIED, tied_above
from trainer.rlhf.reward_model import RewardModel, save_reward_model
from trainer.rlhf.reward_plots import draw_plots
from trainer.rlhf.reward_probes import Probed, planned_chunks, probe_head, read_and_probe, scores_of, voters_of
from trainer.rlhf.reward_report import Judged, build_report, leak_warning, length_sign
from trainer.rlhf.reward_split import named_splits, split_rankings
from trainer.rlhf.reward_tuning import Lesson, make_trainee, steps_done, steps_of, tune
from trainer.rlhf.versions import versions

VALIDATION_FOLDS = 10  # one of which judges, by `auto`, whether tuning wins
DOUBTFUL_LISTED = 200
STATE_FORMAT = 5  # one more whenever what `reward/state` holds is laid out in another way


def train_reward(folder: RunFolder, stop: StopSignal | None = None) -> None:
    """Trains the reward model of a run folder; `reward/report.json` is written last.

    Raises `DataError` for a line that cannot be read, `StageError` where there is too little to learn from.
    """
    config, processes = folder.config, join_processes()
    # Before they are read: of what is written meanwhile a digest would say that it was learned.
    keep_inputs(folder, "reward", [*texts_of(folder, config), folder.path / "prompts.jsonl"], processes)
    digests, splits = digests_of(folder, config), named_splits(folder)
    split = split_rankings(RankingFile(folder.path / "rankings.jsonl"), config, splits)
    base = load_policy(config.base_model, dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    journal = Journal(folder.log("reward"), stop or StopSignal(), is_writing=processes.is_first)
    kind = kind_of(config, len(split.learning))
    trunk = base if kind != "backbone" else load_backbone(config)
    for policy in (trunk,) if trunk is base else (trunk, base):
        refuse_long_rankings(chain(*split), policy, config)
    if kind in ("lora", "full") and config.reward.loss == "plackett_luce":
        refuse_many_ties(split.learning)
    state = state_of(folder.stage("reward") / "state", inputs_key(config, digests, splits), processes)
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
        unseen = held_out_names(splits, split.held_out)
        unranked = unranked_groups(folder, base, config, unseen) if config.reward.metarm else ()
        model = tuned(model, learned, kind, unranked, folder, journal, processes)
    if processes.is_first:
        save_reward_model(model, folder.stage("reward") / "model", {"seed": config.seed, "versions": versions()})
        report = report_on(model, learned, judged, held_out, folder)
        measured = {"reward/accuracy": report["accuracy"]["value"]} if report["accuracy"] else None
        journal.note(measured, message=report["verdict"])
        write_json(folder.product("reward"), report)
    processes.barrier()


def digests_of(folder: RunFolder, config: RunConfig) -> list[str]:
    """Of the texts: they count as they are, not by when they were written."""
    return [sha256_of(path) for path in texts_of(folder, config) if path.exists()]


def inputs_key(config: RunConfig, digests: Sequence[str], splits: Mapping[str, str]) -> str:
    """The key of all that features and tuning are made of."""
    models = [Path(name) for name in (config.base_model, config.reward.backbone) if name is not None]
    return key_of("reward", STATE_FORMAT, settings_of("reward", config), digests, sorted(splits.items()), *models)


def texts_of(folder: RunFolder, config: RunConfig) -> list[Path]:
    """The files that the stage learns from."""
    return [folder.path / "rankings.jsonl"] + [folder.path / "unranked.jsonl"] * (config.reward.metarm > 0)


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


def refuse_many_ties(rankings: Iterable[Ranking]) -> None:
    """Raises `StageError` for the first ranking over whose ties Plackett-Luce would sum for minutes."""
    for ranking in rankings:
        if (tied := tied_above(ranking.ranks)) > MOST_TIED:
            raise StageError(
                f"ranking “{ranking.id}” ties {tied} completions above others, and plackett_luce takes {MOST_TIED} at "
                f"most: set reward.loss to pairwise"
            )


def tuned(
    model: RewardModel,
    learned: Probed,
    kind: str,
    unranked: Sequence[Group],
    folder: RunFolder,
    journal: Journal,
    processes: Processes,
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
    candidate = model._replace(kind=kind, trunk=trunk, head=head)
    measured = groups if is_judging.any() else Encoded(sample_of(groups.rankings, config.seed), trunk, config)
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


def held_out_names(splits: Mapping[str, str], held_out: Iterable[Ranking]) -> set[str]:
    """Ids and contents (`prompt_key`) of the prompts that are not trained on: those named so, and those dealt."""
    dealt = {name for ranking in held_out for name in (ranking.prompt_id, prompt_key(ranking.prompt))}
    return dealt | {name for name, split in splits.items() if split == "held_out"}


def unranked_groups(folder: RunFolder, trunk: Policy, config: RunConfig, held_out: Set[str]) -> list[Group]:
    """Fresh samples of the policy for MetaRM: `unranked.jsonl`, lines of rankings.jsonl whose ranks are all 1.

    Those of prompts that are held out, by id or content, are left out.
    """
    path = folder.path / "unranked.jsonl"
    if not path.exists():
        raise StageError("reward.metarm needs fresh samples of the policy in unranked.jsonl")
    rankings = read_rankings(path)
    kept = [each for each in rankings if held_out.isdisjoint((each.prompt_id, prompt_key(each.prompt)))]
    if not kept:
        raise StageError("unranked.jsonl has no samples of a prompt to train on: generate them with --split train")
    return [group_of(ranking, trunk, config) for ranking in kept]


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
    if report["accuracy"]:
        report["verdict"] += leak_warning(report["near_duplicates"])
    report["plots"] = draw_plots(folder.stage("reward") / "plots", measured, report, seed=config.seed)
    return report
