"""Tiny base models made from a config: two layers, a tokenizer trained on ten lines, saved like any other base."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXT = [
    "The weather is lovely and the garden is full of birds.",
    "I was sad that the train was late again and again.",
    "Write a short story about a fox who learns to read.",
    "What do you think about rain? Answer in one sentence.",
    "A good friend is a great joy, a bad one a heavy load.",
    "This is awful, terrible and boring; that is wonderful.",
    "Numbers such as 1, 2, 3 and 40 are words of their own.",
    "She sells sea shells by the sea shore every summer day.",
    "Nobody knows why the quick brown dog jumps over the fox.",
    "Happy people sing, unhappy people sigh, and cats sleep.",
]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_llama(folder: Path) -> Path:
    """A Llama-shaped base of two layers (rotary positions, grouped queries), EOS = PAD, saved in fp32."""
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        **_special_ids(tokenizer),
    )
    return _save(LlamaForCausalLM(config), tokenizer, folder)


def make_gpt2(folder: Path) -> Path:
    """A GPT-2-shaped base of two layers (learned positions, fused Conv1D projections), EOS = PAD, saved in fp32."""
    tokenizer = make_tokenizer()
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        initializer_range=0.2,
        **_special_ids(tokenizer),
    )
    return _save(GPT2LMHeadModel(config), tokenizer, folder)


def make_bert(folder: Path) -> Path:
    """A BERT-shaped encoder of two layers (learned positions, CLS, SEP, MASK) with a tokenizer of its own."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], vocab_size=350),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save(BertForMaskedLM(config), tokenizer, folder)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of some 400 entries with SmolLM2's special tokens and ChatML."""
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], vocab_size=400),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


def _byte_pairs(special_tokens: list[str], *, vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _save(model, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
