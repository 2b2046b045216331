"""TRL's RewardTrainer on rankings, in its own environment: what `reward.py` and `own_rankings.py` compare with.

TRL gets rankings as its users must give them, each as its pairs, for one epoch. In bf16 full weights are fp32 under
autocast, which is its default, and LoRA's base is bf16. Its rate falls linearly to 0, without a warm-up. Times are of
training alone; what is right is counted in fp32.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.default_base import use_device
from bench.peak import peak_gb
from bench.peer import REWARD_PEER
from bench.right_pairs import right_pairs, wins

Record = dict[str, Any]  # a line of rankings.jsonl


@dataclass(frozen=True)
class Training:
    """One run of TRL's trainer."""

    base: str
    device: str
    dtype: str  # of the arithmetic: float32 or bfloat16
    is_lora: bool
    learning_rate: float
    pairs_per_step: int
    pairs_per_forward: int
    max_length: int  # tokens
    seed: int

    @property
    def forwards_per_step(self) -> int:
        forwards, rest = divmod(self.pairs_per_step, self.pairs_per_forward)
        if rest:  # TRL would silently take fewer pairs a step
            raise ValueError(f"{self.pairs_per_step} pairs a step are not whole forwards of {self.pairs_per_forward}")
        return forwards


def train_theirs(training: Training, train: list[Record], held_out: list[Record]) -> dict[str, Any]:
    """`right` of `pairs` held-out pairs, `seconds`, `steps` and `peak_gb` of a TRL training.

    `lengths` are those of the rows that it computes, in tokens: two of each pair. `dropped` pairs have one that is
    longer than `max_length`; TRL leaves them out.
    """
    given = {"training": asdict(training), "train": train, "held_out": held_out}
    return REWARD_PEER.run("bench.reward_peer", given=given)


def main() -> None:
    given = json.load(sys.stdin)
    print(json.dumps(run(Training(**given["training"]), given["train"], given["held_out"])))


def run(training: Training, train: list[Record], held_out: list[Record]) -> dict[str, Any]:
    use_device(training.device)
    import datasets
    import torch
    import trl
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(training.base)
    dtype = getattr(torch, training.dtype) if training.is_lora else torch.float32
    torch.manual_seed(training.seed)  # the trainer seeds itself when the head has been drawn
    model = AutoModelForSequenceClassification.from_pretrained(training.base, num_labels=1, dtype=dtype)
    pairs = all_pairs(train)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS")
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=training.pairs_per_forward,
            gradient_accumulation_steps=training.forwards_per_step,
            gradient_checkpointing=False,  # faster for TRL where memory allows, as here
            learning_rate=training.learning_rate,
            num_train_epochs=1,
            max_length=training.max_length,
            bf16=training.dtype == "bfloat16" and not training.is_lora,
            use_cpu=training.device == "cpu",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=training.seed,
        )
        trainer = trl.RewardTrainer(
            model=model,
            args=settings,
            train_dataset=datasets.Dataset.from_list(pairs),
            processing_class=tokenizer,
            peft_config=lora if training.is_lora else None,
        )
        started = time.monotonic()
        trainer.train()
        seconds, peak = time.monotonic() - started, peak_gb(training.device)
    kept = trainer.train_dataset
    lengths = [len(ids) for field in ("chosen_ids", "rejected_ids") for ids in kept[field]]
    # Without this its forward is still the one that accelerate put in its place, under autocast.
    scorer = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).float()
    right, count = right_of(scorer, tokenizer, held_out)
    measured = {"seconds": seconds, "lengths": lengths, "steps": trainer.state.global_step, "peak_gb": peak}
    return {"right": right, "pairs": count, "dropped": len(pairs) - len(kept), **measured}


def all_pairs(rankings: list[Record]) -> list[Record]:
    """Rankings as the pairs that TRL's users must make of them."""
    return [
        {"prompt": ranking["prompt"], "chosen": _turn(texts[better]), "rejected": _turn(texts[worse])}
        for ranking in rankings
        for texts in [texts_of(ranking)]
        for better, worse in wins(ranking["ranks"], texts)
    ]


def right_of(model: Any, tokenizer: Any, rankings: list[Record]) -> tuple[float, int]:
    """Pairs of differently ranked completions in the right order, and all of them."""
    counts = [
        right_pairs(_scores(model, tokenizer, ranking), ranking["ranks"], texts_of(ranking)) for ranking in rankings
    ]
    return sum(right for right, _ in counts), sum(pairs for _, pairs in counts)


def texts_of(ranking: Record) -> list[str]:
    return [completion["text"] for completion in ranking["completions"]]


def _scores(model: Any, tokenizer: Any, ranking: Record) -> list[float]:
    import torch

    texts = [
        tokenizer.apply_chat_template(ranking["prompt"] + _turn(text), tokenize=False) for text in texts_of(ranking)
    ]
    scores = []
    model.eval()
    with torch.no_grad():
        for text in texts:  # one by one: TRL finds the last token by its pad id, which here is EOS
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)
            scores.append(float(model(**ids).logits[0, 0]))
    return scores


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


if __name__ == "__main__":
    main()
