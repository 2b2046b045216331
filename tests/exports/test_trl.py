"""The proof that an export needs no preparation: `datasets` opens it, and TRL's trainers train on it as it is."""

import os

import pytest
from django.core.management import call_command

from tests.worlds import make_cast, make_comparison, make_policy, make_pool, make_prompt, make_ranking

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("default"),  # those of other people's libraries are theirs
]
TEXT = "Human Assistant user assistant : Say hello number one two three hi good day < >"
CHAT_TEMPLATE = "{% for message in messages %}< {{ message.role }} : {{ message.content }} >{% endfor %}"


@pytest.fixture
def exported(tmp_path):
    """Paths of exports of 12 rankings of three completions, by format and file type."""
    alice, pool = make_cast()["alice"], make_pool(make_policy())
    for number in range(12):
        prompt = make_prompt(pool, f"Say hello number {number}")
        make_ranking(make_comparison(prompt, ["hi", "good day", "hello"]), alice, [2, 1, 3])

    def export(format, file_type):
        path = tmp_path / f"{format}.{file_type}"
        call_command("export_preferences", "--format", format, "--output", str(path))
        return path

    return export


@pytest.fixture
def load(exported, tmp_path):
    from datasets import load_dataset

    def load(format, file_type):
        loader = "parquet" if file_type == "parquet" else "json"
        path = exported(format, file_type)
        return load_dataset(loader, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))

    return load


@pytest.fixture
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator([TEXT], trainers.WordLevelTrainer(special_tokens=["[PAD]", "[EOS]", "[UNK]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", chat_template=CHAT_TEMPLATE
    )


def tiny_config(**more):
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        **more,
    )


def one_step(config_class, tmp_path):
    return config_class(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )


@pytest.mark.parametrize("file_type", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("format", ["trl", "trl-conversational", "hh", "moss", "rankings"])
def test_datasets_opens_it(load, format, file_type):
    dataset = load(format, file_type)
    assert len(dataset) == (12 if format == "rankings" else 36)
    if format != "rankings":
        assert {"chosen", "rejected", "margin", "group_id", "split"} <= set(dataset.column_names)


@pytest.mark.parametrize("format", ["trl", "trl-conversational", "hh"])
def test_trls_reward_trainer_takes_it_as_it_is(load, tokenizer, tmp_path, format):
    import torch
    from transformers import LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    torch.manual_seed(0)
    trainer = RewardTrainer(
        model=LlamaForSequenceClassification(tiny_config(num_labels=1)),
        args=one_step(RewardConfig, tmp_path),
        train_dataset=load(format, "jsonl"),
        processing_class=tokenizer,
    )
    assert trainer.train().training_loss > 0


@pytest.mark.parametrize("format", ["trl", "trl-conversational"])
def test_trls_dpo_trainer_takes_it_as_it_is(load, tokenizer, tmp_path, format):
    import torch
    from transformers import LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    torch.manual_seed(0)
    LlamaForCausalLM(tiny_config()).save_pretrained(tmp_path / "model")
    trainer = DPOTrainer(
        model=str(tmp_path / "model"),
        args=one_step(DPOConfig, tmp_path),
        train_dataset=load(format, "parquet"),
        processing_class=tokenizer,
    )
    assert trainer.train().training_loss == pytest.approx(0.6931, abs=1e-3)  # log 2: policy and reference agree
