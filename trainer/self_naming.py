"""Whether a completion tells which model wrote it: "I am GPT-4", "我是通义千问". Whoever ranks blind is warned of it.

What counts is that the writer speaks of itself. A text about ChatGPT, a llama or Claude Monet names no writer, and what
stands right behind a quotation mark is said by somebody else.
"""

import json
import re
from functools import lru_cache
from pathlib import Path

NAMES = (
    *("ChatGPT", "GPT", "Claude", "Gemini", "Gemma", "Bard", "Llama", "Vicuna", "Mistral", "Mixtral", "Qwen", "Grok"),
    *("Tongyi Qianwen", "DeepSeek", "SmolLM", "Copilot", "ERNIE Bot", "Kimi", "ChatGLM", "Baichuan", "InternLM"),
    *("OLMo", "Doubao", "Hunyuan", "Open Assistant", "OpenAssistant", "StableLM"),
    *("通义千问", "通义", "千问", "文心一言", "文心", "讯飞星火", "星火", "豆包", "混元", "腾讯元宝", "智谱清言"),
    *("书生浦语", "书生·浦语", "百川大模型", "盘古大模型", "深度求索"),
)
MAKERS = (
    *("OpenAI", "Anthropic", "Google", "DeepMind", "Meta", "Alibaba", "Mistral", "DeepSeek", "Hugging Face"),
    *("HuggingFace", "Microsoft", "Baidu", "Tencent", "ByteDance", "xAI", "Moonshot", "Zhipu", "Cohere"),
    *("阿里云", "阿里巴巴", "百度", "腾讯", "字节跳动", "科大讯飞", "讯飞", "智谱", "华为", "月之暗面", "深度求索"),
)
MODEL = r"(?:(?:language )?model|assistant|chatbot|bot|AI|LLM|语言模型|大模型|模型|助手|机器人|人工智能)"
A_MODEL = rf"(?:an? (?:[\w-]+ ){{0,5}}?{MODEL})"
MADE = r"(?:created|made|built|developed|trained|designed)"
CHINESE_MADE = r"(?:开发|研发|训练|创建|打造|推出)"
VERSION = r"(?>(?:[- ]?v?\d[\w.]*)*(?:[- ](?:Pro|Ultra|Flash|Opus|Sonnet|Haiku|Turbo|Mini|Plus|Chat|Instruct)\b)*)"
# "I am Claude", but neither "I am Claude Monet" nor "I am ChatGPT's inventor" nor "我是通义千问的用户".
ENDS = r"(?!\w)(?!['’]s\b)(?![- ](?-i:[A-Z])[a-zé])"
CHINESE_ENDS = r"(?![A-Za-z的])"
SELF_REFERENCES = (
    r"(?:I am|I[’']m|my name is|call me|I(?: am|[’']m) (?:called|known as)) {name}",
    r"(?:I am|I[’']m|as) {a_model},? ?\(?(?:called|named|known as|based on|powered by)? ?{name}",
    r"(?:I am|I[’']m) (?:based on|powered by|a version of|an instance of) {name}",
    r"as {name},? (?:I|my)\b",
    r"(?:I am|I[’']m|as) {a_model},? (?:that was |which was )?(?:{made} )?(?:by|from) {maker}",
    r"(?:I was|I[’']ve been|I have been) {made} by {maker}",
    r"(?:我是|我叫做?|我的名字[是叫]|我名叫|[你您]可以叫我|我是基于|作为) ?{chinese_name}",
    r"(?:我是|作为)[^。！？\n]{{0,30}}?{model}[，,（( ]*(?:名叫|名为|叫做?)? ?{chinese_name}",
    r"(?:我是?由|我是|作为)[^。！？，,\n]{{0,10}}?{maker}[^。！？，,\n]{{0,10}}?(?:{model}|{chinese_made}|{chinese_name})",
)


def names_its_model(text: str, own_name: str = "") -> bool:
    """Whether the writer of `text` says which model it is, or who made it. `own_name`: its base model's."""
    return self_reference(own_name).search(text) is not None


@lru_cache(maxsize=32)
def self_reference(own_name: str) -> re.Pattern:
    name = any_of((own_name, *NAMES) if own_name else NAMES) + VERSION
    parts = {
        "name": name + ENDS,
        "chinese_name": name + CHINESE_ENDS,
        "maker": f"(?:(?:the team|researchers|engineers) (?:at|of) )?{any_of(MAKERS)}(?![a-z])",
        "a_model": A_MODEL,
        "model": MODEL,
        "made": MADE,
        "chinese_made": CHINESE_MADE,
    }
    said = "|".join(each.format(**parts) for each in SELF_REFERENCES)
    return re.compile(rf"(?<![\"“‘«「『A-Za-z])(?:{said})", re.IGNORECASE)


def any_of(words: tuple[str, ...]) -> str:
    """One of the words, the longest that fits and no shorter one: what follows is judged behind the whole name."""
    longest_first = sorted(words, key=len, reverse=True)
    return f"(?>{'|'.join(re.escape(word) for word in longest_first)})"


def own_name(base_model: str) -> str:
    """What a base model is called: "Qwen" for `Qwen/Qwen2.5-0.5B-Instruct`. Of a folder, what its config.json says."""
    config = Path(base_model) / "config.json"
    if config.exists():
        said = json.loads(config.read_text())
        base_model = said.get("_name_or_path") or said.get("model_type") or ""
    end = r"(?=[-_. ]?\d|[-_. ](?:instruct|chat|base)\b|$)"
    found = re.match(rf"\D*?{end}", Path(base_model).name, re.IGNORECASE)[0]
    return found if len(found) > 1 else ""  # a letter alone is no name that a text could be searched for
