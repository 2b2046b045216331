"""A completion that says which model wrote it is told from one that speaks of a model, or of somebody of that name."""

import json

import pytest

from trainer.self_naming import names_its_model, own_name


@pytest.mark.parametrize(
    "text",
    [
        *("I am GPT-4.", "I'm ChatGPT, how can I help?", "i am chatgpt", "I’m Claude.", "I am Gemini 1.5 Pro"),
        *("My name is Qwen2.5 and I like to help.", "You can call me Gemini.", "I am Claude, an AI."),
        "Hello! I am a large language model called DeepSeek-R1.",
        "I am a helpful AI assistant named SmolLM, trained by Hugging Face.",
        "I am an AI assistant based on GPT-4o",
        "As ChatGPT, I cannot do that.",
        "As an AI language model developed by OpenAI, I have no feelings.",
        *("I was created by Anthropic.", "I was trained by the team at Google."),
        *("你好，我是通义千问。", "你好我是通义千问", "我是 GPT-4 模型", "我叫文心一言。", "我的名字是Kimi"),
        *("我是由阿里云开发的大规模语言模型", "我是阿里云的通义千问", "作为百度研发的人工智能助手，我很乐意帮忙"),
        *("我是一个人工智能助手，名叫豆包", "我是深度求索公司训练的智能助手", "我由OpenAI开发"),
    ],
)
def test_it_knows_a_writer_that_names_itself(text):
    assert names_its_model(text)


@pytest.mark.parametrize(
    "text",
    [
        "ChatGPT is a language model developed by OpenAI.",
        "Compare GPT-4 with Llama 3: both are large language models.",
        *("Claude Monet painted water lilies.", "I am Claude Monet, and I paint.", "My name is Claude Debussy."),
        *("As Claude Monet, I painted the garden.", "As Claude said, I am late.", "I am an actor called Claude."),
        *("I am a llama and I live in Peru.", "I'm a Gemini, born in June.", "The mistral blew all night."),
        *('"I am ChatGPT," said the robot.', "“I am Claude,” he said.", "他说：“我是通义千问”"),
        *("I am a fan of ChatGPT.", "I am ChatGPT's biggest fan.", "I am GPT-4's friend.", "I am not ChatGPT."),
        *("I was made by my parents.", "I am a model citizen.", "I am a modeller from Meta, Ohio."),
        *("通义千问是阿里云的大模型", "ChatGPT是OpenAI开发的模型", "我用ChatGPT写作文"),
        "作为百度的竞争对手，谷歌的模型很强",
        *("我是通义千问的用户", "我是百度的员工", "我是一名学生", "我不是机器人"),
        "",
    ],
)
def test_it_lets_a_text_about_models_and_namesakes_pass(text):
    assert not names_its_model(text)


def test_it_knows_the_base_models_own_name():
    assert names_its_model("Hi, I am Zephyr-7B!", "Zephyr")
    assert not names_its_model("Hi, I am Zephyr-7B!")
    assert not names_its_model("A zephyr is a west wind, and Zephyr its god.", "Zephyr")


@pytest.mark.parametrize(
    ("base_model", "name"),
    [
        ("SmolLM2-135M-Instruct", "SmolLM"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen"),
        ("HuggingFaceH4/zephyr-7b-beta", "zephyr"),
        ("somebody/Starling-chat", "Starling"),
        ("somebody/database-lm", "database-lm"),
        ("somebody/E5", ""),
    ],
)
def test_the_name_is_the_family_without_size_and_kind(base_model, name):
    assert own_name(base_model) == name


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"_name_or_path": "Qwen/Qwen2.5-0.5B", "model_type": "qwen2"}, "Qwen"),
        ({"model_type": "falcon"}, "falcon"),
        ({}, ""),
    ],
)
def test_of_a_folder_it_is_what_its_configuration_says(tmp_path, config, name):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert own_name(str(tmp_path)) == name
