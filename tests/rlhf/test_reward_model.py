"""The reward model as PPO and the `score` command meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from trainer.rlhf.checkpoint import CheckpointError
from trainer.rlhf.config import RunConfig
from trainer.rlhf.encoding import encode_completion, encode_prompt
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.packing import Group
from trainer.rlhf.policy import load_policy
from trainer.rlhf.reward_head import Reading, RewardHead, centred, head_of, read, score_pooled, token_scores
from trainer.rlhf.reward_model import RewardModel, load_reward_model, save_reward_model
from trainer.rlhf.score import run_score

GROUPS = [Group([1, 20, 30], [[50, 60, 2], [70, 2]]), Group([1, 21], [[51, 2]])]


def reward_model(base: Path, pooling="mean") -> RewardModel:
    """`mean` and `last` read layer 1; `both` the mean of layers 0 and 2 and the last token of layer 1."""
    policy = load_policy(base, dtype="float32", device="cpu")
    generator = torch.Generator().manual_seed(0)
    size = policy.model.config.hidden_size
    both = (Reading("mean", 0), Reading("last", 1), Reading("mean", 2))
    readings = both if pooling == "both" else (Reading(pooling, 1),)
    heads = [
        RewardHead(readings, torch.randn(len(readings), size, generator=generator), 0.25, 0.0, 1.5, -2.0, 3.0),
        RewardHead((Reading("last", 2),), torch.randn(1, size, generator=generator)),
    ]
    return RewardModel("probe", policy, policy, *heads, {})


def rows(groups=GROUPS, *, left=2, right=1, pad=2):
    """Each completion as a row of its own, padded on both sides: ids, attention mask, completion mask."""
    longest = max(len(g.prompt_ids) + len(c) for g in groups for c in g.completions)
    ids, real, mine = [], [], []
    for group in groups:
        for completion in group.completions:
            row = group.prompt_ids + completion
            before, after = left, right + longest - len(row)
            ids.append([pad] * before + row + [pad] * after)
            real.append([0] * before + [1] * len(row) + [0] * after)
            mine.append([0] * (before + len(group.prompt_ids)) + [1] * len(completion) + [0] * after)
    return torch.tensor(ids), torch.tensor(real).bool(), torch.tensor(mine).bool()


@pytest.mark.parametrize("base", ["tiny_base", "tiny_gpt2"])
@pytest.mark.parametrize("pooling", ["mean", "last", "both"])
def test_it_scores_alike_packed_or_padded_on_any_side(request, base, pooling):
    model = reward_model(request.getfixturevalue(base), pooling)
    packed = model.score_groups(GROUPS)
    for left, right in ((0, 0), (3, 0), (0, 3), (2, 5)):
        torch.testing.assert_close(model.score(*rows(left=left, right=right)), packed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "both"])
def test_it_attributes_a_score_that_is_a_mean_to_tokens_exactly(tiny_base, pooling):
    model = reward_model(tiny_base, pooling)
    ids, real, mine = rows()
    terms = model.token_scores(ids, real, mine)
    assert (terms[~mine] == 0).all()
    torch.testing.assert_close(terms.sum(1) / mine.sum(1), model.score(ids, real, mine))
    each = model.explain_groups(GROUPS)
    assert [len(own) for own in each] == [3, 2, 2]
    torch.testing.assert_close(torch.stack([own.mean() for own in each]), model.score_groups(GROUPS))


def test_it_gives_the_score_of_every_prefix_where_the_last_token_is_read(tiny_base):
    model = reward_model(tiny_base, "last")
    (terms, _, _) = model.explain_groups(GROUPS)
    prefixes = [Group([1, 20, 30], [[50, 60, 2][:length]]) for length in (1, 2, 3)]
    torch.testing.assert_close(terms, model.score_groups(prefixes), rtol=1e-4, atol=1e-4)


def test_it_adds_up_its_readings_by_hand():
    head = RewardHead((Reading("mean", 0), Reading("last", 3)), torch.tensor([[2.0], [10.0]]), bias=1.0)
    hidden = {0: torch.tensor([[[5.0], [1.0], [3.0], [4.0]]]), 3: torch.tensor([[[9.0], [7.0], [0.5], [0.1]]])}
    owner = torch.tensor([[-1, 0, 0, 1]])
    assert score_pooled(head, read(head, hidden, owner, 2)).tolist() == pytest.approx([2 * 2 + 5 + 1, 8 + 1 + 1])
    # The last token of the first completion says 10 x 0.5 of the whole, so each of its two tokens has that.
    assert token_scores(head, hidden, owner)[0].tolist() == pytest.approx([0, 2 + 5 + 1, 6 + 5 + 1, 8 + 1 + 1])


def test_it_reads_a_head_that_was_saved_when_it_had_one_reading():
    facts = {"pooling": "last", "layer": 3, "bias": 0.5, "mean": 0.0, "std": 2.0, "low": -1.0, "high": 1.0}
    head = head_of(facts | {"weight": "head.weight in head.safetensors"}, torch.tensor([1.0, 2.0]))
    assert head.readings == (Reading("last", 3),) and head.weight.tolist() == [[1.0, 2.0]] and head.std == 2.0


def test_it_scores_to_the_bit_as_it_was_saved(tiny_base, tmp_path):
    model = reward_model(tiny_base, "both")
    model = model._replace(voters=tuple(model.head._replace(weight=sign * model.head.weight) for sign in (-1, 2)))
    save_reward_model(model, tmp_path / "model", {"seed": 7})
    loaded = load_reward_model(tmp_path / "model", dtype="float32")
    assert torch.equal(loaded.score_groups(GROUPS), model.score_groups(GROUPS))
    assert torch.equal(loaded.judge_groups(GROUPS), model.judge_groups(GROUPS))
    assert loaded.head._replace(weight=None) == model.head._replace(weight=None)
    assert loaded.record["seed"] == 7 and loaded.is_frozen_trunk
    assert [torch.equal(a.weight, b.weight) for a, b in zip(loaded.voters, model.voters, strict=True)] == [True] * 2
    shared = load_reward_model(tmp_path / "model", base=model.base)
    assert shared.base is model.base and shared.trunk is model.base


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_it_refuses_a_folder_that_was_changed(tiny_base, tmp_path, damage):
    save_reward_model(reward_model(tiny_base), tmp_path / "model", {})
    path = tmp_path / "model" / "head.safetensors"
    if damage == "flip":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match="head.safetensors"):
        load_reward_model(tmp_path / "model")


@pytest.mark.parametrize("kind", ["backbone", "full"])
def test_it_trusts_a_models_own_code_where_the_run_does(tiny_base, tmp_path, monkeypatch, kind):
    model = reward_model(tiny_base)
    save_reward_model(model._replace(kind=kind), tmp_path / "model", {})
    asked = []
    monkeypatch.setattr(
        "trainer.rlhf.reward_model.load_policy",
        lambda *_, trust_remote_code=False, **__: asked.append(trust_remote_code) or model.base,
    )
    load_reward_model(tmp_path / "model", trust_remote_code=True)
    assert asked == [True, True]


def test_it_says_that_there_is_no_judge(tiny_base):
    with pytest.raises(ValueError, match="without a judge"):
        reward_model(tiny_base)._replace(judge_head=None).judge_groups(GROUPS)


def test_it_centres_training_scores_and_notes_their_range():
    head = RewardHead((Reading("mean", 0),), torch.tensor([[2.0]]), bias=10.0)
    pooled = {("mean", 0): torch.tensor([[1.0], [2.0], [6.0]])}
    head = centred(head, score_pooled(head, pooled))
    assert score_pooled(head, pooled).tolist() == pytest.approx([-4.0, -2.0, 6.0])
    assert (head.low, head.high, head.mean) == pytest.approx((-4.0, 6.0, 0.0))
    assert head.std == pytest.approx((56 / 3) ** 0.5)


def test_it_writes_a_line_of_scores_for_each_line(tiny_base, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"base_model": str(tiny_base), "dtype": "float32"}))
    model = reward_model(tiny_base)
    save_reward_model(model, tmp_path / "reward" / "model", {})
    prompt = [{"role": "user", "content": "Rain?"}]
    lines = [
        {"id": "a", "prompt": prompt, "completions": [{"id": "x", "text": "Lovely."}, {"id": "y", "text": "Awful"}]},
        {"prompt": prompt, "text": "Happy birds sing."},
    ]
    source, out = tmp_path / "completions.jsonl", tmp_path / "scores.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run_score(RunFolder(tmp_path), StopSignal(), completions=source, out=out)
    first, second = map(json.loads, out.read_text().splitlines())
    assert (first["id"], second["id"]) == ("a", "1")
    assert [entry["id"] for entry in first["completions"]] == ["x", "y"]
    tokenizer, config = model.base.tokenizer, RunConfig(str(tiny_base))
    ids = encode_prompt(tokenizer, prompt, max_tokens=config.max_prompt_tokens)
    text = encode_completion(tokenizer, "Happy birds sing.", max_tokens=config.max_completion_tokens)
    (entry,) = second["completions"]
    assert entry["score"] == pytest.approx(float(model.score_groups([Group(ids, [text])])), rel=1e-4)
    assert entry["judge"] == pytest.approx(float(model.judge_groups([Group(ids, [text])])), rel=1e-4)
    assert "".join("Happy birds sing."[start:end] for start, end, _ in entry["tokens"]) == "Happy birds sing."
    assert entry["tokens"][-1][:2] == [17, 17], "the term of EOS stands at the end"


def test_it_scores_nothing_without_a_reward_model(tiny_base, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"base_model": str(tiny_base)}))
    with pytest.raises(StageError, match="run the reward stage first"):
        run_score(RunFolder(tmp_path), StopSignal(), completions=tmp_path / "c", out=tmp_path / "o")
