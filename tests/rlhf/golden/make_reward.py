"""Golden numbers of reward modelling, out of the `RewardTrainer` of the TRL that the tests install: `reward.json`.

    .venv/bin/python -m tests.rlhf.golden.make_reward

One step of `RewardTrainer.train()` on pairs with margins and centring, of the classifier that `make_ppo.py` uses as its
reward model. The trainer is as it is; its loss and scores are noted where it returns them, gradients where it asks for
them, before it clips them.

Two runs: with a pad id of its own, and with PAD = EOS, as many tokenizers have it.
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer

from tests.rlhf.golden.exact_json import as_json
from tests.tiny_models import make_tokenizer

FOLDER = Path(__file__).parent
CENTRING = 0.05
PAIRS = [  # margins tell the pairs apart after the trainer has shuffled them
    {"prompt": [1, 20, 30], "chosen": [40, 41, 42, 2], "rejected": [50, 2], "margin": 0.5},
    {"prompt": [1, 21], "chosen": [7, 2], "rejected": [51, 17, 18, 19, 20], "margin": 0.0},
    {"prompt": [1, 33, 2, 1, 34], "chosen": [60, 61], "rejected": [60, 62, 2], "margin": 1.25},
    {"prompt": [1, 8], "chosen": [9, 10, 2], "rejected": [11, 12, 2], "margin": 0.25},
]


def main() -> None:
    assert version("trl").startswith("1.16."), version("trl")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    runs = {"pad_is_eos": golden_run(tokenizer)}
    tokenizer.pad_token = tokenizer.unk_token
    runs = {"pad": golden_run(tokenizer)} | runs
    record = {
        "versions": {name: version(name) for name in ("trl", "torch", "transformers", "accelerate")},
        "centring": CENTRING,
        "pairs": PAIRS,
        "runs": runs,
    }
    (FOLDER / "reward.json").write_text(as_json(record))


def golden_run(tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, Any]:
    """The pairs in the trainer's order, loss, scores (all chosen, then all rejected) and gradients of one step."""
    weight = torch.tensor(json.loads((FOLDER / "ppo.json").read_text())["reward_weight"])
    model = LlamaForSequenceClassification.from_pretrained(FOLDER / "base", num_labels=1)
    with torch.no_grad():
        model.score.weight.copy_(weight[None])
    rows = [
        {
            "chosen_ids": pair["prompt"] + pair["chosen"],
            "rejected_ids": pair["prompt"] + pair["rejected"],
            "margin": pair["margin"],
        }
        for pair in PAIRS
    ]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                output_dir=folder,
                per_device_train_batch_size=len(PAIRS),
                max_steps=1,
                center_rewards_coefficient=CENTRING,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        compute_loss, backward = trainer.compute_loss, trainer.accelerator.backward

        def noted_loss(model: Any, inputs: dict[str, Any], **settings: Any) -> Any:
            margins = inputs["margin"].tolist()
            found["order"] = [next(n for n, pair in enumerate(PAIRS) if pair["margin"] == m) for m in margins]
            loss, outputs = compute_loss(model, inputs, **settings | {"return_outputs": True})
            found["loss"], found["scores"] = loss.item(), outputs.logits[:, 0].tolist()
            return loss

        def noted_backward(loss: torch.Tensor, **settings: Any) -> None:
            backward(loss, **settings)
            found["head_gradient"] = model.score.weight.grad[0].tolist()
            found["gradient_norms"] = {
                name: parameter.grad.norm().item() for name, parameter in model.model.named_parameters()
            }

        trainer.compute_loss, trainer.accelerator.backward = noted_loss, noted_backward
        trainer.train()
    return found


if __name__ == "__main__":
    main()
