"""The reward stage on a tiny base: what it writes, that a kill changes nothing, and each way of training."""

from __future__ import annotations

import json
import math
import random
import shutil
from array import array
from dataclasses import replace

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from trainer.rlhf import reward_training, reward_tuning
from trainer.rlhf.config import LoraConfig, RewardConfig, RunConfig
from trainer.rlhf.data import Completion, Ranking
from trainer.rlhf.doubts import Votes, mend
from trainer.rlhf.folder import RunFolder, StageError, Stopped, StopSignal
from trainer.rlhf.packing import Group
from trainer.rlhf.pairs import pairs_of
from trainer.rlhf.policy import load_policy
from trainer.rlhf.ranking_file import RankingFile
from trainer.rlhf.reward_features import _whole_group_of, group_of, sample_of
from trainer.rlhf.reward_model import RewardModel, load_reward_model
from trainer.rlhf.reward_split import named_splits, split_rankings
from trainer.rlhf.reward_training import train_reward, without_effect
from trainer.rlhf.reward_tuning import Lesson, _loss, register_of

GOOD = ["lovely", "great", "wonderful", "a joy", "happy birds sing"]
BAD = ["awful", "terrible", "boring", "sad and late", "unhappy people sigh"]


def write_run(folder, base, *, prompts=24, seed=3, reward=None, **config):
    """A run folder whose rankings prefer the kinder words, one in ten the other way round."""
    generator = random.Random(seed)
    lines = []
    for number in range(prompts):
        words = generator.sample(GOOD, 2) + generator.sample(BAD, 2)
        ranks = [1, 1, 2, 2] if generator.random() < 0.9 else [2, 2, 1, 1]
        order = generator.sample(range(4), 4)
        lines.append(
            {
                "id": f"r{number}",
                "prompt": [{"role": "user", "content": f"What do you think about {number} dogs?"}],
                "completions": [{"id": f"c{place}", "text": words[place]} for place in order],
                "ranks": [ranks[place] for place in order],
                "annotator": "alice" if number % 2 else "bob",
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rankings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"base_model": str(base), "dtype": "float32", "max_completion_tokens": 12, **config}
    settings["reward"] = {"folds": 3, "ensemble": 3, **(reward or {})}
    (folder / "config.json").write_text(json.dumps(settings))
    return RunFolder(folder)


def report_of(run):
    return json.loads(run.product("reward").read_text())


def model_files(run):
    return {path.name: path.read_bytes() for path in (run.path / "reward" / "model").iterdir()}


class StopAfter(StopSignal):
    """SIGTERM as it would come at the nth look."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def is_agreed(self, *processes):
        self.looks -= 1
        return self.looks <= 0


def test_it_learns_what_people_prefer(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=60)
    train_reward(run)
    report = report_of(run)
    assert report["accuracy"]["value"] > 0.75
    assert report["accuracy"]["low"] <= report["accuracy"]["value"] <= report["accuracy"]["high"]
    assert report["chosen"] == report["candidates"][0]
    assert 1 <= len(report["blend"]) <= 4 and report["cut_share"] == 0.0
    assert set(report["slices"]["annotator"]) == {"alice", "bob"}
    assert report["judge"]["pairs"] == report["accuracy"]["pairs"]
    assert report["without_effect"] == []
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    assert len(model.voters) == 3 and {voter.readings for voter in model.voters} == {model.head.readings}
    likeness = [
        torch.cosine_similarity(voter.weight.flatten(), model.head.weight.flatten(), 0) for voter in model.voters
    ]
    assert all(0.5 < float(each) < 0.999 for each in likeness)
    for plot in report["plots"]:
        assert (run.path / "reward" / plot).read_text().startswith("<?xml")
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    tokenizer = model.base.tokenizer
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Well?"}], add_generation_prompt=True)
    prompt = prompt["input_ids"] if not isinstance(prompt, list) else prompt
    texts = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in ("great", "awful")]
    kind, unkind = model.score_groups([Group(prompt, texts)]).tolist()
    assert kind > unkind
    kind, unkind = model.judge_groups([Group(prompt, texts)]).tolist()
    assert kind > unkind


def test_it_writes_progress_that_counts_to_its_end(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base)
    train_reward(run)
    records = run.log("reward").records()
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    assert records[-1]["step"] == records[-1]["steps"]
    assert records[-1]["message"] == report_of(run)["verdict"]


@pytest.mark.parametrize("train", ["probe", "lora", "full"])
def test_it_ends_the_same_after_a_kill_at_any_step(tiny_base, tmp_path, train):
    reward = {"train": train, "rankings_per_step": 4, "pooling": "mean"}
    lora = None if train == "full" else {"r": 4, "alpha": 8}
    whole = write_run(tmp_path / "whole", tiny_base, reward=reward, lora=lora)
    train_reward(whole)
    killed = write_run(tmp_path / "killed", tiny_base, reward=reward, lora=lora)
    for looks in (1, 2, 3, 4, 5, 5):
        try:
            train_reward(killed, StopAfter(looks))
        except Stopped:
            continue
    train_reward(killed)
    assert model_files(killed) == model_files(whole)
    mine, theirs = (report_of(run) for run in (killed, whole))
    assert mine == theirs
    steps = [record["step"] for record in killed.log("reward").records()]
    assert steps == [record["step"] for record in whole.log("reward").records()]


@pytest.mark.parametrize(("train", "pooling"), [("lora", "mean"), ("lora", "last"), ("full", "mean"), ("full", "last")])
def test_it_starts_tuning_at_the_probe_and_scores_alike_saved_and_loaded(tiny_base, tmp_path, train, pooling):
    lora = {"r": 4, "alpha": 8} if train == "lora" else None
    reward = {"train": train, "pooling": pooling, "epochs": 6, "rankings_per_step": 99, "learning_rate": 3e-3}
    run = write_run(tmp_path / "run", tiny_base, reward={**reward, "ensemble": 0}, lora=lora)
    train_reward(run)
    losses = [r["metrics"]["reward/loss"] for r in run.log("reward").records() if "reward/loss" in r["metrics"]]
    assert losses[-1] < losses[0]
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    assert model.kind == train and not model.is_frozen_trunk
    group = Group([1, 5, 6], [[7, 8, 2], [9, 2]])
    packed = model.score_groups([group])
    ids = torch.tensor([[1, 5, 6, 7, 8, 2], [2, 1, 5, 6, 9, 2]])
    real = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]).bool()
    mask = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1]]).bool()
    torch.testing.assert_close(model.score(ids, real, mask), packed, rtol=1e-4, atol=1e-5)
    again = load_reward_model(run.path / "reward" / "model", dtype="float32")
    assert torch.equal(again.score_groups([group]), packed)


@pytest.mark.parametrize(
    ("train", "set_rate", "rate"), [("lora", None, 1e-4), ("full", None, 2e-5), ("full", 1e-3, 1e-3)]
)
def test_it_tunes_an_adapter_and_full_weights_at_their_usual_rates(tiny_base, tmp_path, train, set_rate, rate):
    """Of the reward model's trunk: that the policy is an adapter does not make it one."""
    reward = {"train": train, "rankings_per_step": 99, "learning_rate": set_rate, "layer": 2, "ensemble": 0}
    run = write_run(tmp_path / "run", tiny_base, reward=reward, lora={"r": 4, "alpha": 8})
    train_reward(run)
    steps = [record["metrics"] for record in run.log("reward").records()]
    assert [step["reward/learning_rate"] for step in steps if "reward/learning_rate" in step] == [rate]


def test_it_keeps_the_probes_that_vote_beside_a_tuned_trunk(tiny_base, tmp_path):
    reward = {"rankings_per_step": 99, "pooling": "mean", "layer": 1}
    probed, tuned = (
        write_run(tmp_path / train, tiny_base, reward={**reward, "train": train}, lora={"r": 4, "alpha": 8})
        for train in ("probe", "lora")
    )
    for run in (probed, tuned):
        train_reward(run)
    before, after = (load_reward_model(run.path / "reward" / "model", dtype="float32") for run in (probed, tuned))
    assert len(before.voters) == 3 and after.kind == "lora"
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(before.voters, after.voters, strict=True))


def test_it_leaves_the_policy_adapter_active_that_was(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, reward={"train": "lora"}, lora={"r": 4, "alpha": 8})
    train_reward(run)
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    model.base.new_adapter("policy", run.config.lora, seed=1)
    model.base.use_adapter("policy")
    model.score_groups([Group([1, 5], [[7, 2]])])
    layer = next(module for module in model.base.model.modules() if isinstance(module, LoraLayer))
    assert layer.active_adapters == ["policy"] and not layer.disable_adapters


@pytest.mark.parametrize(
    "reward",
    [
        {"loss": "plackett_luce"},
        {"ties": "rao_kupper", "centring": 0.01, "label_smoothing": 0.1},
        {"ties": "davidson", "margin": "votes"},
        {"ties": "drop", "doubtful": "flip", "is_packed": False},
        {"doubtful": "soft", "simcse": 1.0},
        {"doubtful": "drop", "metarm": 1e-3},
    ],
)
def test_it_trains_with_each_switch(tiny_base, tmp_path, monkeypatch, reward):
    """What the stage hands on; what each does with it is tested where it stands."""
    given, called = [], []
    pairwise, climb, contrast, views = (
        getattr(reward_tuning, name) for name in ("pairwise_loss", "risen", "contrast_of", "pack")
    )

    def spy(scores, pairs, **options):
        given.append(options | {"targets": set(pairs.target.tolist())})
        return pairwise(scores, pairs, **options)

    def noted(name, work):
        return lambda *args, **options: (called.append(name), work(*args, **options))[1]

    def rows(groups, **options):
        given_rows.append(max(len(group.completions) for group in groups))
        return views(groups, **options)

    given_rows = []
    monkeypatch.setattr(reward_tuning, "pairwise_loss", spy)
    monkeypatch.setattr(reward_tuning, "risen", noted("metarm", climb))
    monkeypatch.setattr(reward_tuning, "contrast_of", noted("simcse", contrast))
    monkeypatch.setattr(reward_tuning, "pack", rows)
    lora = {"r": 4, "alpha": 8, "dropout": 0.1 if "simcse" in reward else 0.0}
    run = write_run(tmp_path / "run", tiny_base, reward={"train": "lora", "layer": 2, **reward}, lora=lora)
    shutil.copy(run.path / "rankings.jsonl", run.path / "unranked.jsonl")
    train_reward(run)
    assert report_of(run)["kind"] == "lora"
    losses = [r["metrics"]["reward/loss"] for r in run.log("reward").records() if "reward/loss" in r["metrics"]]
    assert all(math.isfinite(loss) for loss in losses)
    assert bool(given) == (reward.get("loss") != "plackett_luce")
    for options in given:
        assert options["ties"] == reward.get("ties", "half")
        assert options["centring"] == reward.get("centring", 0.0)
        assert (options["margin"] is not None) == ("margin" in reward)
        assert (0.5 in options["targets"]) == (reward.get("ties") != "drop")
        if "label_smoothing" in reward:
            assert sorted(options["targets"]) == pytest.approx([0.5, 0.9])
    assert set(called) == {"simcse", "metarm"} & reward.keys()
    assert set(given_rows) == ({4} if reward.get("is_packed", True) else {1})


@pytest.mark.parametrize(
    ("reward", "kind", "names"),
    [
        ({}, "probe", []),
        ({"simcse": 1.0, "margin": "votes", "label_smoothing": 0.1}, "probe", ["reward.margin", "reward.simcse"]),
        ({"simcse": 1.0, "margin": "votes"}, "lora", []),
        ({"loss": "plackett_luce", "margin": "votes"}, "full", ["reward.margin"]),
        ({"loss": "plackett_luce"}, "backbone", ["reward.loss"]),
        ({"loss": "plackett_luce", "doubtful": "flip"}, "lora", ["reward.doubtful"]),
        ({"loss": "plackett_luce", "doubtful": "soft", "ties": "drop"}, "full", ["reward.ties", "reward.doubtful"]),
        ({"loss": "plackett_luce", "doubtful": "drop"}, "lora", []),
        ({"doubtful": "flip", "ensemble": 0}, "probe", ["reward.doubtful"]),
        ({"doubtful": "flip", "ties": "drop"}, "probe", []),
        ({"ties": "rao_kupper", "rankings_per_step": 2}, "probe", ["reward.ties", "reward.rankings_per_step"]),
        ({"ties": "rao_kupper", "tie_parameter": 0.3}, "lora", []),
        ({"tie_parameter": 0.3}, "lora", ["reward.tie_parameter"]),
    ],
)
def test_it_names_the_switches_that_changed_nothing(reward, kind, names):
    assert without_effect(RunConfig("base", reward=RewardConfig(**reward)), kind) == names


@pytest.mark.parametrize(
    ("simcse", "kind", "names"),
    [(1.0, "lora", []), (0.0, "lora", ["lora.dropout"]), (1.0, "probe", ["reward.simcse", "lora.dropout"])],
)
def test_it_says_that_dropout_is_for_simcse_alone(simcse, kind, names):
    config = RunConfig("base", lora=LoraConfig(dropout=0.1), reward=RewardConfig(simcse=simcse))
    assert without_effect(config, kind) == names


@pytest.mark.parametrize("doubtful", ["keep", "flip", "soft", "drop"])
def test_it_names_doubtful_where_plackett_luce_learns_the_same_without_it(doubtful):
    """A ranking of three with one doubtful pair: the loss of the mended pairs against that of the pairs as labelled."""
    completions = tuple(Completion(str(place), f"text {place}") for place in range(3))
    prompt = [{"role": "user", "content": "?"}]
    rankings = [Ranking(name, name, prompt, completions, (1, 2, 3)) for name in ("a", "b")]
    pairs = pairs_of(rankings)
    votes = Votes(torch.tensor([-1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), torch.zeros(6))
    config = RewardConfig(loss="plackett_luce", doubtful=doubtful)
    scores = torch.tensor([1.0, 0.0, -1.0, 0.5, 2.0, 0.0])
    losses = []
    for taught in (pairs, mend(pairs, votes, doubtful)):
        lesson = Lesson(rankings, [], taught)
        losses.append(float(_loss(scores, [0, 1], lesson, register_of(lesson), config)[0]))
    names = without_effect(RunConfig("base", reward=config), "lora")
    assert (losses[0] == losses[1]) == (doubtful == "keep" or names == ["reward.doubtful"])


@pytest.mark.parametrize("loss", ["pairwise", "plackett_luce"])
def test_it_keeps_the_probe_where_tuning_does_not_win(tiny_base, tmp_path, loss):
    reward = {"auto_lora_rankings": 1, "learning_rate": 0.0, "rankings_per_step": 2, "loss": loss}
    run = write_run(tmp_path / "run", tiny_base, reward=reward, lora={"r": 4, "alpha": 8})
    train_reward(run)
    records = run.log("reward").records()
    losses = [record["metrics"]["reward/loss"] for record in records if "reward/loss" in record["metrics"]]
    assert len(losses) > 5 and all(math.isfinite(value) for value in losses)
    assert report_of(run)["kind"] == "probe"
    assert load_reward_model(run.path / "reward" / "model", dtype="float32").is_frozen_trunk


@pytest.mark.parametrize("is_judged_better", [True, False])
def test_auto_keeps_the_tuned_trunk_where_it_gets_more_pairs_right(tiny_base, tmp_path, monkeypatch, is_judged_better):
    """Measured on the judging tenth alone; there the accuracy of what was tuned, and of the probe, is planted."""
    reward = {"auto_lora_rankings": 1, "rankings_per_step": 4}
    run = write_run(tmp_path / "run", tiny_base, prompts=60, reward=reward, lora={"r": 4, "alpha": 8})
    found = iter([0.8, 0.7] if is_judged_better else [0.7, 0.8])
    asked = []

    def planted(scores, pairs):
        asked.append(len(pairs.winner))
        return next(found)

    monkeypatch.setattr("trainer.rlhf.reward_training.pair_accuracy", planted)
    train_reward(run)
    kind = "lora" if is_judged_better else "probe"
    assert report_of(run)["kind"] == kind
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    assert model.kind == kind and model.is_frozen_trunk == (not is_judged_better)
    assert len(asked) == 2 and asked[0] == asked[1] < report_of(run)["training_rankings"]


def test_it_keeps_the_three_parts_apart_by_prompt(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=40)
    split = split_rankings(RankingFile(run.path / "rankings.jsonl"), run.config)
    prompts = [{ranking.prompt_id for ranking in part} for part in split]
    assert all(prompts) and not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])


@pytest.mark.parametrize("has_ids", [True, False])
def test_it_holds_out_the_prompts_that_the_run_does(tiny_base, tmp_path, has_ids):
    """The evaluation will ask them: a ranking that names no split has that of its prompt, known by id or by words."""
    run = write_run(tmp_path / "run", tiny_base, prompts=40)
    rankings = [json.loads(line) for line in (run.path / "rankings.jsonl").read_text().splitlines()]
    kept = {f"p{number}" for number in range(0, 40, 3)}
    lines = []
    for number, ranking in enumerate(rankings):
        name = f"p{number}"
        if has_ids:
            ranking["prompt_id"] = name
        lines.append({"id": name, "messages": ranking["prompt"], "split": "held_out" if name in kept else "train"})
    (run.path / "rankings.jsonl").write_text("".join(json.dumps(ranking) + "\n" for ranking in rankings))
    (run.path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    split = split_rankings(RankingFile(run.path / "rankings.jsonl"), run.config, named_splits(run))
    numbers = [{ranking.id.replace("r", "p") for ranking in part} for part in split]
    assert numbers[2] == kept and numbers[0] and numbers[1]


@pytest.mark.parametrize("told", [None, "train"])
def test_it_holds_out_the_words_that_another_ranking_does(tiny_base, tmp_path, told):
    """As where one prompt stands in two pools, each of which dealt it for itself."""
    run = write_run(tmp_path / "run", tiny_base, prompts=40)
    rankings = [json.loads(line) for line in (run.path / "rankings.jsonl").read_text().splitlines()]
    kept = [ranking | {"split": "held_out"} for ranking in rankings[::4]]
    twins = [ranking | {"prompt_id": ranking["id"], "split": told} for ranking in kept]
    rankings = [ranking | {"split": "train"} for ranking in rankings] + kept + twins
    lines = [json.dumps(ranking | {"id": str(number)}) + "\n" for number, ranking in enumerate(rankings)]
    (run.path / "rankings.jsonl").write_text("".join(lines))
    split = split_rankings(RankingFile(run.path / "rankings.jsonl"), run.config, named_splits(run))
    held_out = {*range(0, 40, 4), *range(40, 60)}
    assert {int(ranking.id) for ranking in split.held_out} == held_out
    assert {int(ranking.id) for part in split[:2] for ranking in part} == {*range(40)} - held_out


def test_it_says_how_many_completions_it_saw_cut(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, reward={"ensemble": 0}, max_completion_tokens=1)
    train_reward(run)
    assert report_of(run)["cut_share"] == 1.0


def rewrite(run, change):
    """The run's rankings, each as `change` of its number and its record has it."""
    path = run.path / "rankings.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(number, record)) + "\n" for number, record in enumerate(records)))


def test_the_rival_that_counts_tokens_counts_them_beyond_the_cut(tiny_base, tmp_path):
    """The longer of two answers always wins, and both are cut to the same length: people saw them whole."""
    run = write_run(tmp_path / "run", tiny_base, prompts=40, reward={"ensemble": 0}, max_completion_tokens=6)

    def longer_wins(number, record):
        texts = [f"{'so ' * words}{number}" for words in (30 + number, 20)]
        return record | {"completions": [{"text": text} for text in texts], "ranks": [1, 2]}

    rewrite(run, longer_wins)
    train_reward(run)
    report = report_of(run)
    assert report["length_baseline"]["value"] == 1.0 and report["cut_share"] == 1.0
    assert report["beats_length_baseline"] is False and "does not beat the length-only" in report["verdict"]
    columns = load_file(run.path / "reward" / "state" / "learning-000000" / "features.safetensors")
    tokenizer = load_reward_model(run.path / "reward" / "model", dtype="float32").base.tokenizer
    split = split_rankings(RankingFile(run.path / "rankings.jsonl"), run.config, named_splits(run))
    texts = [completion.text for ranking in split.learning[:16] for completion in ranking.completions]
    assert columns["lengths"].tolist() == [len(tokenizer(text)["input_ids"]) + 1 for text in texts]


def test_what_ends_at_the_limit_or_was_sampled_longer_is_as_long_as_it_was(tiny_base, tmp_path):
    """Of a text alone the end of its turn counts; of sampled ids what was sampled, that token with them if it came."""
    run = write_run(tmp_path / "run", tiny_base)
    base = load_policy(str(tiny_base), dtype="float32")
    ids = base.tokenizer("lovely", add_special_tokens=False)["input_ids"]
    completions = (Completion("0", "lovely"), Completion("1", "lovely", array("I", ids)))
    ranking = Ranking("r", "p", [{"role": "user", "content": "?"}], completions, (1, 2))
    tokens = len(ids)
    for limit in (tokens - 1, tokens, tokens + 1):
        config = replace(run.config, max_completion_tokens=limit)
        whole = [len(each) for each in _whole_group_of(ranking, base, config).completions]
        assert whole == [tokens + 1, tokens]
        cut = group_of(ranking, base, config).completions
        assert cut == [[*ids, base.tokenizer.eos_token_id][:limit], ids[:limit]]


def test_one_prompt_under_many_ids_is_too_few_to_measure_on(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=30)
    rewrite(
        run, lambda number, record: record | {"prompt_id": f"p{number}", "prompt": [{"role": "user", "content": "?"}]}
    )
    with pytest.raises(StageError, match="all rankings are of one prompt"):
        train_reward(run)


def test_it_needs_two_prompts_to_learn_from_and_not_two_ids(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=12)

    def same_but_one(number, record):
        content, split = ("Well?", "held_out") if number == 0 else ("?", "train")
        return record | {"prompt_id": number, "prompt": [{"role": "user", "content": content}], "split": split}

    rewrite(run, same_but_one)
    with pytest.raises(StageError, match="at least two training prompts"):
        train_reward(run)


def test_its_verdict_says_how_many_held_out_prompts_are_nearly_training_prompts(tiny_base, tmp_path):
    """An ending of another word in one prompt of thirty words."""
    run = write_run(tmp_path / "run", tiny_base, prompts=24, reward={"ensemble": 0})
    train_reward(run)
    assert "nearly training prompts" not in report_of(run)["verdict"]
    run.product("reward").unlink()

    def twins(number, record):
        words = " ".join(f"{word}{number // 2}" for word in "abcdefghijklmnopqrstuvwxyzABCD")
        content = f"{words} {'this' if number % 2 else 'that'}"
        split = "held_out" if number in (0, 2, 4) else "train"
        return record | {"prompt": [{"role": "user", "content": content}], "split": split}

    rewrite(run, twins)
    train_reward(run)
    report = report_of(run)
    assert (report["near_duplicates"]["count"], report["near_duplicates"]["of"]) == (3, 3)
    assert report["verdict"].endswith("nearly training prompts: 3 of 3. What it gets right there may be memory.")


def test_it_reads_many_rankings_with_the_chosen_layer_only(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.rlhf.reward_features.SEARCH_RANKINGS", 20)
    monkeypatch.setattr("trainer.rlhf.reward_probes.SEARCH_RANKINGS", 20)
    run = write_run(tmp_path / "run", tiny_base, prompts=80)
    train_reward(run)
    chosen = report_of(run)["chosen"]
    columns = load_file(run.path / "reward" / "state" / "learning-000000" / "features.safetensors")
    assert f"{chosen['pooling']}.{chosen['layer']}" in columns and len(columns) <= 3
    records = run.log("reward").records()
    assert records[-1]["step"] == records[-1]["steps"]


@pytest.mark.parametrize("train", ["probe", "lora"])
def test_it_learns_the_same_from_features_on_disk_as_from_those_in_memory(tiny_base, tmp_path, monkeypatch, train):
    settings = {"reward": {"train": train, "margin": "votes", "loss": "pairwise"}, "lora": {"r": 4, "alpha": 8}}
    near, far = (write_run(tmp_path / name, tiny_base, prompts=40, **settings) for name in ("near", "far"))
    train_reward(near)
    monkeypatch.setattr("trainer.rlhf.reward_features.SEARCH_RANKINGS", 1)
    monkeypatch.setattr("trainer.rlhf.reward_training.sample_of", lambda rankings, _seed: rankings)  # still of all
    train_reward(far)
    assert model_files(far) == model_files(near)
    assert report_of(far) == report_of(near)


def test_it_ends_the_same_after_a_kill_among_many_rankings(tiny_base, tmp_path, monkeypatch):
    for module in ("reward_features", "reward_probes"):
        monkeypatch.setattr(f"trainer.rlhf.{module}.SEARCH_RANKINGS", 20)
    whole, killed = (write_run(tmp_path / name, tiny_base, prompts=80) for name in ("whole", "killed"))
    train_reward(whole)
    for looks in (2, 5, 8):
        with pytest.raises(Stopped):
            train_reward(killed, StopAfter(looks))
    train_reward(killed)
    assert model_files(killed) == model_files(whole)
    assert report_of(killed) == report_of(whole)


@pytest.mark.parametrize(
    ("reward", "lora", "sentence"),
    [
        ({"layer": 9}, None, "reward.layer 9"),
        ({"held_out_share": 0.0}, None, "no prompt is held out"),
        ({"train": "lora"}, None, "lora is null"),
        ({"train": "lora", "margin": "votes", "ensemble": 0}, {"r": 2}, "nobody votes"),
        ({"train": "lora", "simcse": 1.0}, {"r": 2}, "needs dropout for its two views: set lora.dropout"),
        ({"train": "full", "simcse": 1.0}, None, "and this base has none: train with lora"),
        ({"train": "lora", "metarm": 1.0}, {"r": 2}, "unranked.jsonl"),
    ],
)
def test_it_says_what_cannot_be_done(tiny_base, tmp_path, reward, lora, sentence):
    run = write_run(tmp_path / "run", tiny_base, reward=reward, lora=lora)
    with pytest.raises(StageError, match=sentence):
        train_reward(run)


class HereItEnds(Exception):
    """Where the rest of the stage has nothing to say."""


def end_here(*_, **__):
    raise HereItEnds


@pytest.mark.parametrize(("tied", "is_refused"), [(10, False), (11, True)])
def test_it_names_a_ranking_over_whose_ties_plackett_luce_would_sum_for_minutes(
    tiny_base, tmp_path, monkeypatch, tied, is_refused
):
    reward = {"train": "lora", "loss": "plackett_luce", "judge_share": 0.0, "layer": 2, "ensemble": 0}
    run = write_run(tmp_path / "run", tiny_base, prompts=12, reward=reward, lora={"r": 2})
    completions = [{"id": f"c{place}", "text": f"text {place}"} for place in range(tied + 1)]
    prompt = [{"role": "user", "content": "Cats?"}]
    line = {"id": "even", "prompt": prompt, "completions": completions, "ranks": [1] * tied + [2], "split": "train"}
    with (run.path / "rankings.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    monkeypatch.setattr(reward_training, "tune", end_here)
    sentence = "ranking “even” ties 11 completions above others, and plackett_luce takes 10 at most"
    with pytest.raises(StageError if is_refused else HereItEnds, match=sentence if is_refused else None):
        train_reward(run)


def test_metarm_reads_no_sample_of_a_prompt_that_is_held_out(tiny_base, tmp_path, monkeypatch):
    """By name, in prompts.jsonl or in a line, or dealt."""
    run = write_run(tmp_path / "run", tiny_base, prompts=40, reward={"train": "lora", "metarm": 1e-3}, lora={"r": 2})
    lines = [json.loads(line) for line in (run.path / "rankings.jsonl").read_text().splitlines()]
    lines[0]["split"] = "held_out"
    (run.path / "rankings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    unranked = [line | {"ranks": [1] * 4, "prompt_id": "another"} for line in lines]
    (run.path / "unranked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in unranked))
    named = {"id": "p", "messages": lines[1]["prompt"], "split": "held_out"}
    (run.path / "prompts.jsonl").write_text(json.dumps(named) + "\n")
    split = split_rankings(RankingFile(run.path / "rankings.jsonl"), run.config, named_splits(run))
    assert {"r0", "r1"} < {ranking.id for ranking in split.held_out}
    lessons = []
    monkeypatch.setattr(reward_training, "tune", lambda _, lesson, *rest, **__: (lessons.append(lesson), end_here()))
    with pytest.raises(HereItEnds):
        train_reward(run)
    base, trained = lessons[0].groups.base, [*split.learning, *split.judging]
    expected = [group_of(ranking, base, run.config) for ranking in trained]
    assert sorted(lessons[0].unranked) == sorted(expected)
    (run.path / "unranked.jsonl").write_text(json.dumps(unranked[0]) + "\n")
    with pytest.raises(StageError, match="unranked.jsonl has no samples of a prompt to train on"):
        train_reward(run)


def test_a_tuned_head_is_centred_on_a_sample_and_not_on_the_first_of_the_file(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.rlhf.reward_features.SEARCH_RANKINGS", 8)
    reward = {"train": "lora", "layer": 2, "ensemble": 0}
    run = write_run(tmp_path / "run", tiny_base, reward=reward, lora={"r": 2})
    scored, score = [], RewardModel.score_groups
    monkeypatch.setattr(
        RewardModel, "score_groups", lambda model, groups: (scored.append(groups), score(model, groups))[1]
    )
    train_reward(run)
    learning = split_rankings(RankingFile(run.path / "rankings.jsonl"), run.config).learning
    ids = [ranking.id for ranking in scored[0].rankings]
    assert ids == [ranking.id for ranking in sample_of(learning, run.config.seed)]
    assert ids != [ranking.id for ranking in learning[:8]] and len(ids) == 8


def test_it_needs_prompts_with_a_preference(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=2)
    with pytest.raises(StageError, match="rank more prompts"):
        train_reward(run)


def test_it_says_that_one_prompt_is_too_few_to_measure_on(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=1, seed=4, reward={"held_out_share": 1e-9})
    with pytest.raises(StageError, match="all rankings are of one prompt"):
        train_reward(run)


def test_it_learns_nothing_from_answers_with_the_same_words(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base)
    path = run.path / "rankings.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for completion in (completion for line in lines for completion in line["completions"]):
        completion["text"] = "The very same."
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(StageError, match="rankings with a preference"):
        train_reward(run)


def test_it_learns_nothing_from_what_weighs_nothing(tiny_base, tmp_path):
    run = write_run(tmp_path / "run", tiny_base, prompts=12)
    path = run.path / "rankings.jsonl"
    lines = [json.loads(line) | {"weight": number % 2} for number, line in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    learning, judging, held_out = split_rankings(RankingFile(path), run.config)
    assert {ranking.weight for ranking in [*learning, *judging]} == {1.0} and len(held_out) > 0
    path.write_text("".join(json.dumps(line | {"weight": 0}) + "\n" for line in lines))
    with pytest.raises(StageError, match="a weight above 0"):
        train_reward(run)


def test_it_says_that_nothing_was_ranked_yet():
    with pytest.raises(StageError, match="rankings.jsonl has no ranking"):
        split_rankings([], RunConfig("base"))


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_judge_has_the_share_of_training_prompts_it_is_given(tiny_base, tmp_path, share):
    """One ranking a prompt: the judge's part is exact to half a prompt, and without one there is no judge."""
    run = write_run(tmp_path / "run", tiny_base, prompts=40, reward={"judge_share": share, "layer": 2})
    train_reward(run)
    model = load_reward_model(run.path / "reward" / "model", dtype="float32")
    assert (model.judge_head is not None) == (share > 0)
    report = report_of(run)
    assert ("judge" in report) == (share > 0)
    if share:
        judging, learning = report["judge"]["training_rankings"], report["training_rankings"]
        assert abs(judging - share * (judging + learning)) <= 0.5
