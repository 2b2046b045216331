"""The evaluate stage: win rates with intervals that know about prompts, and a record that adds up."""

import json
import math
import shutil

import pytest

from tests.rlhf.run_folders import make_run, run, with_reward_model
from trainer.rlhf.__main__ import main
from trainer.rlhf.encoding import load_tokenizer, token_spans
from trainer.rlhf.evaluation import (
    Rate,
    Written,
    held_out_prompts,
    is_overoptimised,
    perplexity,
    run_evaluate,
    win_rate,
)
from trainer.rlhf.folder import COMPLETE, FAILED, StageError, Stopped, StopSignal
from trainer.rlhf.intervals import wilson
from trainer.rlhf.ppo import run_ppo
from trainer.rlhf.text_statistics import distinct, duplicate_share, percentile, repetition

HAS_E = "tests.rlhf.rewards:has_e"


def written(prompt: str, score: float) -> Written:
    return Written(prompt, "text", [1, 2], -1.0, -2.0, score, None)


def test_it_compares_all_pairs_of_a_prompt_and_counts_a_tie_as_half():
    ours = [written("a", 1), written("a", 3), written("b", 0)]
    theirs = [written("a", 2), written("a", 1), written("b", 0)]
    # a: 1 < 2, 1 = 1, 3 > 2, 3 > 1 -> 2.5 of 4; b: a tie -> 0.5
    rate = win_rate(ours, theirs, lambda row: row.score)
    assert rate.value == pytest.approx((2.5 / 4 + 0.5) / 2)
    assert (rate.n, rate.prompts) == (5, 2)
    assert rate.low < rate.value < rate.high


def test_its_interval_is_wilsons_and_wider_where_a_prompts_samples_agree():
    assert wilson(0.5, 100) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert wilson(1.0, 10) == (pytest.approx(0.7225, abs=1e-4), pytest.approx(1.0))
    names = [str(number) for number in range(20)]
    base = [written(name, 0.0) for name in names for _ in range(4)]
    same = [written(name, 1.0 if int(name) % 2 else -1.0) for name in names for _ in range(4)]
    mixed = [written(name, 1.0 if copy % 2 else -1.0) for name in names for copy in range(4)]
    clustered, independent = (win_rate(side, base, lambda row: row.score) for side in (same, mixed))
    assert clustered.value == independent.value == 0.5
    assert clustered.high - clustered.low > 1.4 * (independent.high - independent.low)


@pytest.mark.parametrize(
    ("low", "high", "judge_accuracy", "is_so"),
    [
        (0.51, 0.49, 0.51, True),
        (0.50, 0.49, 0.51, False),
        (0.51, 0.50, 0.51, False),
        (0.51, 0.49, 0.50, False),
        (0.51, 0.49, None, False),
    ],
)
def test_only_a_judge_that_beats_chance_can_say_that_a_candidate_is_overoptimised(low, high, judge_accuracy, is_so):
    rate, judged = Rate(0.6, low, 0.7, 48, 12), Rate(0.4, 0.3, high, 48, 12)
    assert is_overoptimised(rate, judged, judge_accuracy) is is_so
    assert not is_overoptimised(rate, None, judge_accuracy)


def test_its_perplexity_weighs_tokens_and_not_completions():
    rows = [Written("a", "", [1], 0.0, -2.0, 0.0, None), Written("a", "", [1, 2, 3], 0.0, -4.0, 0.0, None)]
    assert perplexity(rows) == pytest.approx(math.exp((2 + 4) / 4))


def test_it_finds_the_candidate_better_where_it_is_and_writes_the_whole_record(tmp_path, tiny_base):
    settings = {"updates": 12, "prompts": 6, "samples": 8, "learning_rate": 0.03}
    folder = make_run(tmp_path, tiny_base, prompts=16, ppo=settings, evaluate={"samples": 6, "shown": 3})
    run(folder)
    run_evaluate(folder, StopSignal(), reward=HAS_E)
    found = json.loads((folder.path / "evaluation.json").read_text())
    assert found["win_rate"]["value"] > 0.6
    assert found["win_rate"] == found["win_rate_base"]
    assert found["win_rate"]["n"] == 4 * 6 * 6
    assert found["judge"] is None
    assert found["kl"] > 0
    assert found["perplexity_parent"] == found["perplexity_base"] != found["perplexity"]
    assert 0 < found["distinct_1"]["candidate"] <= found["distinct_2"]["candidate"] <= 1
    assert found["kl_parent"] == pytest.approx(0, abs=1e-3)
    assert found["length"]["parent"] == found["length"]["base"]
    assert len(found["samples"]) == 3
    assert found["samples"][0]["scores"][0] in (0.0, 1.0)
    steps = [record["step"] for record in folder.log("evaluate").records()]
    assert steps == list(range(1, steps[-1] + 1))


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_it_shows_of_each_token_what_it_adds_to_the_score(tmp_path, tiny_base, pooling):
    folder = make_run(tmp_path, tiny_base, prompts=16, evaluate={"samples": 2, "shown": 3})
    with_reward_model(folder, tiny_base, pooling=pooling)
    run_ppo(folder, StopSignal())
    run_evaluate(folder, StopSignal())
    samples = json.loads((folder.path / "evaluation.json").read_text())["samples"]
    assert len(samples) == 3
    for sample in samples:
        for name, terms, score in zip(("candidate", "parent", "base"), sample["terms"], sample["scores"], strict=True):
            if pooling == "last":
                assert terms is None, "a score of the last token alone has no terms"
                continue
            assert sum(term for *_, term in terms) / len(terms) == pytest.approx(score, abs=1e-3)
            assert "".join(sample[name][start:end] for start, end, _ in terms) == sample[name]


def test_it_places_tokens_that_share_a_character_with_the_last_of_them(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    text = "ab 石\0 c"
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    spans = token_spans(tokenizer, ids)
    written = tokenizer.decode(ids, skip_special_tokens=True).replace("\0", "")
    assert "".join(written[start:end] for start, end in spans) == written
    assert spans[-1] == (len(written), len(written))
    assert all(first[1] == second[0] for first, second in zip(spans, spans[1:], strict=False))


def test_a_stopped_evaluation_goes_on_and_ends_the_same(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr("trainer.rlhf.evaluation.CHUNK_PROMPTS", 1)
    folder = make_run(tmp_path, tiny_base, prompts=16)
    run(folder)
    run_evaluate(folder, StopSignal(), reward=HAS_E)
    product = folder.path / "evaluation.json"
    whole = product.read_text()
    product.unlink()
    for file in sorted((folder.path / "evaluate" / "state").glob("*.json"))[::2]:
        file.unlink()
    stop = StopSignal()
    stop.is_set = True
    with pytest.raises(Stopped):
        run_evaluate(folder, stop, reward=HAS_E)
    run_evaluate(folder, StopSignal(), reward=HAS_E)
    assert product.read_text() == whole


@pytest.mark.parametrize(("most", "asked"), [(3, ["3", "19", "35"]), (99, [str(n) for n in range(3, 48, 4)])])
def test_it_asks_prompts_from_the_whole_file_and_not_its_first(tmp_path, tiny_base, most, asked):
    folder = make_run(tmp_path, tiny_base, prompts=48, evaluate={"prompts": most})  # every fourth is held out
    assert [prompt.id for prompt in held_out_prompts(folder, folder.config)] == asked


def test_it_says_when_there_is_nothing_to_compare(tmp_path, tiny_base):
    run(folder := make_run(tmp_path / "a", tiny_base, prompts=2))
    with pytest.raises(StageError, match="no prompt of the split “held_out”"):
        run_evaluate(folder, StopSignal(), reward=HAS_E)
    with pytest.raises(StageError, match="run the ppo stage first"):
        run_evaluate(make_run(tmp_path / "b", tiny_base), StopSignal(), reward=HAS_E)


def test_it_compares_a_checkpoint_that_is_not_the_runs_own(tmp_path, tiny_base):
    own, other = (make_run(tmp_path / name, tiny_base, prompts=16) for name in ("own", "other"))
    run(own)
    with_reward_model(own, tiny_base)
    sft = other.path / "sft" / "policy"
    sft.parent.mkdir()
    shutil.copytree(own.path / "ppo" / "policy", sft)
    options = ["--checkpoint", str(sft), "--reward-model", str(own.path / "reward")]
    assert main(["evaluate", str(own.path)]) == COMPLETE
    assert main(["evaluate", str(other.path), *options]) == COMPLETE
    assert (other.path / "evaluation.json").read_text() == (own.path / "evaluation.json").read_text()


def test_a_comparison_of_something_else_is_not_taken_for_the_one_that_is_asked(tmp_path, tiny_base, capsys):
    """It ended with 0 and left the numbers of the other checkpoint, or put the halves of two together."""
    folder = make_run(tmp_path / "run", tiny_base, prompts=16)
    run(folder)
    with_reward_model(folder, tiny_base)
    copy = shutil.copytree(folder.path / "ppo" / "policy", tmp_path / "copy")
    command = ["evaluate", str(folder.path)]
    assert main(command) == main(command) == COMPLETE
    before = (folder.path / "evaluation.json").read_text()
    assert main([*command, "--checkpoint", str(copy)]) == FAILED
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "evaluate: evaluate was begun with other values of --checkpoint: set them back, take a new run folder, or "
        "remove evaluate/, evaluation.json"
    )
    assert (folder.path / "evaluation.json").read_text() == before
    (folder.path / "evaluation.json").unlink()
    assert main([*command, "--checkpoint", str(copy)]) == FAILED
    assert main(command) == COMPLETE


def test_it_reports_the_accuracy_of_the_reward_model_that_scored_and_of_a_function_none(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base, prompts=16)
    run(folder)
    with_reward_model(folder, tiny_base)
    report = {"accuracy": {"value": 0.71}, "calibration": {"ece": 0.04}}
    (folder.path / "reward" / "report.json").write_text(json.dumps(report))
    found = []
    for reward in (None, HAS_E):
        run_evaluate(folder, StopSignal(), reward=reward)
        record = json.loads(folder.product("evaluate").read_text())
        found.append((record["reward_accuracy"], record["ece"]))
    assert found == [(0.71, 0.04), (None, None)]


def test_a_checkpoint_that_cannot_be_compared_is_named(tmp_path, tiny_base, tiny_gpt2):
    folder, other = make_run(tmp_path / "run", tiny_gpt2), make_run(tmp_path / "other", tiny_base)
    run(other)
    for path, words in ((tmp_path / "nowhere", "no checkpoint in"), (other.path / "ppo" / "policy", "on the base")):
        with pytest.raises(StageError, match=words):
            run_evaluate(folder, StopSignal(), reward=HAS_E, checkpoint=path)


def test_text_statistics_are_those_counted_by_hand():
    assert distinct([[1, 2, 1, 2], [1, 2]], 2) == pytest.approx(2 / 4)  # 12 21 12, 12
    assert repetition([[1, 1, 1, 1, 1], [1, 2, 3, 4]]) == pytest.approx((2 / 3 + 0) / 2)
    assert duplicate_share([[1], [1], [2], [1]]) == 0.5
    assert distinct([[1]], 2) == 0.0
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile(list(range(1, 101)), 0.95) == 95
