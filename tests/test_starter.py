"""The starter pools: the prompts and guidelines that a fresh system begins with. Pure: no database."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

STARTER = Path(__file__).resolve().parent.parent / "annotate" / "starter"
TAGS = {
    "dialogue",
    "generation",
    "summarisation",
    "translation",
    "question-answering",
    "classification",
    "sentiment",
}
LANGUAGES = {"english": "en", "chinese": "zh-hans"}
ID_PREFIXES = {"english": "en", "chinese": "zh"}
HEADINGS = {
    "english": ["What to look for", "How to rank", "Ties", "All bad", "Skip", "Flags", "Examples"],
    "chinese": ["看什么", "怎么排", "并列", "都不好", "跳过", "标记", "例子"],
}
HAN = re.compile("[\u4e00-\u9fff]")


def prompts(pool):
    lines = (STARTER / f"{pool}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def guidelines(pool):
    return (STARTER / f"{pool}.md").read_text(encoding="utf-8")


def wording(prompt):
    """The text of all turns, without case, spaces and punctuation."""
    text = "".join(message["content"] for message in prompt["messages"])
    return re.sub(r"[\W_]+", "", text.casefold())


def phrases(prompt, length):
    text = wording(prompt)
    return {text[i : i + length] for i in range(len(text) - length + 1)}


def beyond_gb2312(text):
    """The Han characters that GB 2312, the first standard of simplified Chinese, does not know."""
    return {char for char in HAN.findall(text) if not char.encode("gb2312", errors="ignore")}


@pytest.fixture(params=sorted(LANGUAGES))
def pool(request):
    return request.param


def test_it_holds_enough_prompts_of_every_tag(pool):
    counts = Counter(tag for prompt in prompts(pool) for tag in prompt["tags"])

    assert len(prompts(pool)) >= 96
    assert set(counts) == TAGS
    assert min(counts.values()) >= 12


def test_it_gives_every_prompt_exactly_the_agreed_fields(pool):
    for prompt in prompts(pool):
        assert set(prompt) == {"id", "messages", "language", "tags"}
        assert prompt["language"] == LANGUAGES[pool]
        assert len(prompt["tags"]) == len(set(prompt["tags"])) > 0


def test_it_names_every_prompt_once(pool):
    ids = [prompt["id"] for prompt in prompts(pool)]

    assert len(ids) == len(set(ids))
    for prompt in prompts(pool):
        assert re.fullmatch(rf"{ID_PREFIXES[pool]}-{prompt['tags'][0]}-\d{{3}}", prompt["id"])


def test_it_never_asks_the_same_thing_twice(pool):
    wordings = Counter(wording(prompt) for prompt in prompts(pool))

    assert [text for text, count in wordings.items() if count > 1] == []


def test_it_has_no_two_prompts_that_are_nearly_alike(pool):
    length = 5 if pool == "english" else 2
    known = {prompt["id"]: phrases(prompt, length) for prompt in prompts(pool)}
    alike = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(known.items(), 2)
        if len(a & b) > 0.4 * min(len(a), len(b))
    ]

    assert alike == []


def test_it_alternates_turns_and_ends_with_the_user(pool):
    for prompt in prompts(pool):
        roles = [message["role"] for message in prompt["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        expected = [("user", "assistant")[i % 2] for i in range(len(turns))]

        assert turns == expected, prompt["id"]
        assert turns[-1] == "user", prompt["id"]
        for message in prompt["messages"]:
            assert set(message) == {"role", "content"}
            assert message["content"] == message["content"].strip() != ""


def test_it_has_conversations_of_several_turns_and_system_messages(pool):
    dialogues = [prompt["messages"] for prompt in prompts(pool) if "dialogue" in prompt["tags"]]

    assert sum(any(message["role"] == "assistant" for message in messages) for messages in dialogues) >= 3
    assert sum(messages[0]["role"] == "system" for messages in dialogues) >= 1


def test_it_keeps_prompts_short_enough_for_a_small_model():
    for prompt in prompts("english"):
        assert sum(len(message["content"].split()) for message in prompt["messages"]) <= 80, prompt["id"]
    for prompt in prompts("chinese"):
        # A byte-level vocabulary may need three tokens for a character; the trainer takes prompts of 256 tokens.
        assert sum(len(message["content"]) for message in prompt["messages"]) <= 100, prompt["id"]


def test_it_tells_simplified_from_traditional_characters():
    assert beyond_gb2312("学习汉语，请说话") == set()
    assert beyond_gb2312("學習漢語，請說話") == set("學習漢語請說話")


def test_it_writes_the_chinese_pool_in_simplified_chinese():
    texts = {prompt["id"]: "".join(m["content"] for m in prompt["messages"]) for prompt in prompts("chinese")}
    texts["guidelines"] = guidelines("chinese")

    for name, text in texts.items():
        assert len(HAN.findall(text)) >= 10, name
        assert beyond_gb2312(text) == set(), name


def test_it_uses_chinese_punctuation_after_chinese_characters():
    texts = [m["content"] for prompt in prompts("chinese") for m in prompt["messages"]]

    for text in [*texts, guidelines("chinese")]:
        assert re.search("[\u4e00-\u9fff][,.?!:;\"'()]", text) is None, text


def test_it_writes_the_english_pool_without_chinese():
    for prompt in prompts("english"):
        assert not any(HAN.search(message["content"]) for message in prompt["messages"]), prompt["id"]
    assert HAN.search(guidelines("english")) is None


def test_it_covers_every_topic_in_the_guidelines(pool):
    assert re.findall(r"^## (.+)$", guidelines(pool), flags=re.MULTILINE) == HEADINGS[pool]


def test_it_keeps_the_guidelines_to_a_page(pool):
    if pool == "english":
        assert 300 <= len(guidelines(pool).split()) <= 500
    else:
        assert 500 <= len(HAN.findall(guidelines(pool))) <= 900
