"""What workers store in English is found again and said in Chinese: each producer is asked, not its words copied."""

import ast
import json
import re
from itertools import product
from pathlib import Path

import pytest
from django.utils import translation

from annotate.stored_sentences import in_readers_language
from trainer.gate import weigh

ROOT = Path(__file__).resolve().parent.parent
NAMES = re.compile(r"\b(KL|SmolLM2|BASE_MODEL|reward|tiny|ppo|updates|true|false|two)\b")


def in_chinese(text: str) -> str:
    with translation.override("zh-hans"):
        return in_readers_language(text)


def is_chinese(said: str) -> bool:
    return re.search(r"[一-鿿]", said) is not None and re.search(r"[A-Za-z]{2}", NAMES.sub("", said)) is None


def estimate(value: float) -> dict:
    return {"value": value, "low": value, "high": value}


def verdict_of(*, win_rate: float, judge: float, kl: float, length: float, repetition: float, accuracy: float):
    evaluation = {
        "win_rate": estimate(win_rate),
        "judge": estimate(judge),
        "is_overoptimised": judge < 0.5 < win_rate,
        "kl": kl,
        "length": {"candidate": length, "parent": 10.0},
        "repetition": {"candidate": repetition, "parent": 0.1},
    }
    return weigh(evaluation, {"accuracy": estimate(accuracy)}, {})


@pytest.mark.parametrize("length", [1.0, 90.0])
def test_it_says_every_check_of_the_gate(length):
    verdict = verdict_of(win_rate=0.4, judge=0.3, kl=20.0, length=length, repetition=0.9, accuracy=0.5)
    assert len(verdict.checks) == 7
    for check in verdict.checks:
        assert is_chinese(in_chinese(check.sentence)), check.sentence
    assert is_chinese(in_chinese(verdict.sentence))
    assert in_chinese(verdict.sentence).startswith("对父检查点的胜率为 0.40，要求不低于 0.55。由独立评判")


def test_it_says_that_a_candidate_was_over_optimised():
    verdict = verdict_of(win_rate=0.7, judge=0.46, kl=2.0, length=11.0, repetition=0.1, accuracy=0.6)
    assert verdict.sentence.startswith("Its reward model prefers it")
    assert is_chinese(in_chinese(verdict.sentence)), in_chinese(verdict.sentence)


def test_it_says_that_every_check_was_passed():
    verdict = verdict_of(win_rate=0.7, judge=0.6, kl=2.0, length=11.0, repetition=0.1, accuracy=0.6)
    assert in_chinese(verdict.sentence) == "各项检查全部通过。"


def test_it_says_that_another_checkpoint_served_by_then():
    from trainer.loop import OVERTAKEN

    said = in_chinese(OVERTAKEN.format(parent="tiny-0", serving="tiny-1"))
    assert is_chinese(said), said
    assert "tiny-0" in said and "tiny-1" in said


@pytest.mark.parametrize(("low", "lead"), list(product([0.4, 0.6], [(-0.1, -0.2), (0.1, -0.1), (0.2, 0.1)])))
def test_it_says_the_verdict_on_the_reward_model(low, lead):
    from trainer.rlhf.reward_report import Interval, verdict

    value, lowest = lead
    sentence = verdict(Interval(0.63, low, 0.8, 40), Interval(0.55, 0.4, 0.7, 40), Interval(value, lowest, 0.3, 40))
    assert is_chinese(in_chinese(sentence)), in_chinese(sentence)
    assert in_chinese(sentence).startswith(f"40 个留出回答对中判对 63%（95% 区间：{100 * low:.0f}% 至 80%）")


def test_it_says_how_many_held_out_prompts_are_nearly_training_prompts():
    from trainer.rlhf.reward_report import Interval, leak_warning, verdict

    sentence = verdict(Interval(0.63, 0.6, 0.8, 40), Interval(0.55, 0.4, 0.7, 40), Interval(0.2, 0.1, 0.3, 40))
    said = in_chinese(sentence + leak_warning({"count": 3, "of": 8}))
    assert is_chinese(said) and said.startswith(in_chinese(sentence)), said
    assert said.endswith("8 个留出题目中有 3 个与训练题目几乎相同，在这些题目上判对，可能只是因为记住了。")


def test_it_says_why_a_pool_was_paused(db, monkeypatch):
    from annotate.models import PromptPool
    from tests.worlds import make_policy, make_pool
    from trainer import generation

    policy = make_policy()
    policy.base_model = "hub/SmolLM2"
    policy.save()
    pool = make_pool(policy, status=PromptPool.Status.CHECKING)
    monkeypatch.setattr(generation, "share_in_language", lambda pool: 0.12)
    generation.check_languages()
    pool.refresh_from_db()
    assert pool.status == PromptPool.Status.PAUSED
    assert in_chinese(pool.status_reason).startswith("SmolLM2 为这些题目所写的文字中，只有 12% ")


def sentences_of_the_trainer() -> list[str]:
    """What `trainer.rlhf` raises as a StageError or writes as a message, with a 1 in every blank."""
    found = []
    for path in sorted((ROOT / "trainer" / "rlhf").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                is_error = getattr(node.func, "id", "") == "StageError"
                said = node.args[:1] if is_error else [word.value for word in node.keywords if word.arg == "message"]
                found += [text for each in said if (text := text_of(each))]
    return found


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "1" for part in node.values)
    return str(node.value) if isinstance(node, ast.Constant) and node.value else ""


def test_it_knows_every_sentence_of_the_trainer():
    sentences = sentences_of_the_trainer()
    assert len(sentences) > 10
    assert [sentence for sentence in sentences if in_chinese(sentence) == sentence] == []


def test_it_says_why_a_stage_failed(tmp_path):
    from trainer.program import failure_of

    (tmp_path / "reward.log").write_text("Traceback\nKeyError: 'x'\n")
    assert in_chinese(str(failure_of(tmp_path, "reward"))) == "训练程序在 reward 阶段失败：KeyError: 'x'"


@pytest.mark.parametrize("stage", ["pretrain", "sft", "reward", "ppo", "evaluate"])
def test_it_says_which_keys_bound_the_memory_of_a_stage(tmp_path, stage):
    from trainer.program import failure_of
    from trainer.rlhf.folder import run_stage

    def starved(folder, stop):
        raise MemoryError

    (tmp_path / "config.json").write_text(json.dumps({"base_model": "b"}))
    with pytest.raises(MemoryError):
        run_stage(stage, starved, tmp_path)
    said = in_chinese(str(failure_of(tmp_path, stage)))
    assert said.startswith("内存不足。请调低 ") and "，或释放一些内存，然后重试。" in said
    assert said.endswith("，该阶段会从头开始。" if stage in ("pretrain", "sft", "ppo") else "然后重试。")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (
            "The machine ran out of memory; lower ppo.micro_tokens or free some and retry.",
            "内存不足。请调低 ppo.micro_tokens，或释放一些内存后重试。",
        ),
        (
            "critic pre-trained for 60 steps; it explains 45% of the variance of the returns",
            "价值网络预训练了 60 步，能解释回报方差的 45%",
        ),
        (
            "the reward function must return 4 finite numbers, one a completion",
            "奖励函数必须为每个回答返回一个有限的数，共 4 个。",
        ),
    ],
)
def test_it_knows_what_earlier_versions_stored(stored, said):
    assert in_chinese(stored) == said


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        {"speed": 1},
        {"ppo": {"updates": "two"}},
        {"ppo": {"critic": {"kind": "tiny"}}},
        {"lora": 3},
        {"ppo": {"updates": 0}},
        {"ppo": {"temperature": 0}},
        {"reward": {"held_out_share": 2}},
        {"ppo": {"learning_rate": float("nan")}},
    ],
)
def test_it_says_what_is_wrong_with_a_recipe(recipe):
    from trainer.rlhf.config import ConfigError, RunConfig, parse

    with pytest.raises(ConfigError) as caught:
        parse(RunConfig, recipe | {"base_model": "-"} if isinstance(recipe, dict) else recipe)
    sentence = str(caught.value)
    assert in_chinese(sentence) != sentence
    assert re.search("须为|没有这个键", in_chinese(sentence))


def test_it_says_which_run_and_which_snapshot():
    from annotate.models import PreferenceSnapshot
    from trainer.models import TrainingRun

    assert in_chinese(str(TrainingRun(pk=3))) == "训练运行 3"
    assert in_chinese(str(PreferenceSnapshot(pk=4, size=120))) == "快照 4（120 条排序）"


def test_it_says_a_refusal_that_was_stored():
    from annotate.errors import NothingToLearnFrom

    assert in_chinese(str(NothingToLearnFrom())) == "排序太少，还学不到东西。"


@pytest.mark.parametrize("text", ["", "We wait for new guidelines.", "It passed every check. So we say.", "等新指南。"])
def test_it_leaves_other_words_alone(text):
    assert in_chinese(text) == text


def test_it_leaves_english_readers_their_english():
    with translation.override("en"):
        assert in_readers_language("It passed every check.") == "It passed every check."
