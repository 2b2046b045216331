"""The `sft` stage: supervised fine-tuning on demonstrations, loss on the assistant's turns only.

    python -m trainer.rlhf sft RUN_FOLDER        reads demonstrations.jsonl, writes sft/policy/

The product is a checkpoint like any other: name its folder as `parent` of the next run. Left out: packing several
conversations in one row (rows of like length are batched instead) and NEFTune.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainer.rlhf.context import check_examples
from trainer.rlhf.encoding import MaskedConversation
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.imitation import backward_imitation, read_conversations
from trainer.rlhf.inputs import contents_of, models_of
from trainer.rlhf.processes import join_processes
from trainer.rlhf.supervised import load_learner, train
from trainer.rlhf.trunk import trunk_of


def run_sft(folder: RunFolder, stop: StopSignal) -> None:
    """Trains on the run folder's demonstrations.jsonl."""
    config, processes = folder.config, join_processes()
    source = folder.path / "demonstrations.jsonl"
    contents = contents_of(models_of(config) | {source.name: source}, processes)
    learner = load_learner(config)
    conversations = read_conversations(folder, learner.policy.tokenizer, max_tokens=config.sft.max_tokens)
    if conversations is None:
        raise StageError("there is no demonstrations.jsonl in the run folder")
    lengths = [len(item.input_ids) for item in conversations]
    check_examples(trunk_of(learner.policy.model), lengths, keys="sft.max_tokens")

    def backward(batch: Sequence[MaskedConversation], _step: int) -> dict[str, float]:
        loss = backward_imitation(
            learner.policy, batch, weight=1.0, micro_tokens=config.sft.micro_tokens, processes=processes
        )
        return {"sft/loss": loss, "sft/tokens": sum(sum(item.is_assistant[1:]) for item in batch)}

    train(
        folder,
        stop,
        stage="sft",
        config=config,
        learner=learner,
        examples=conversations,
        examples_per_step=config.sft.conversations_per_step,
        epochs=config.sft.epochs,
        learning_rate=config.sft_rate,
        backward=backward,
        contents=contents,
        processes=processes,
    )
