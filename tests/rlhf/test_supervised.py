"""The supervised stages: what the loss covers, that it falls, and that a stopped stage ends as one left alone."""

import json
import random
import tracemalloc

import pytest
import torch
from safetensors.torch import load_file

from tests.rlhf.run_folders import make_run, with_reward_model
from trainer.rlhf import checkpoint, sft, supervised
from trainer.rlhf.corpus import cut_blocks
from trainer.rlhf.encoding import MaskedConversation, load_tokenizer
from trainer.rlhf.folder import StageError, Stopped, StopSignal
from trainer.rlhf.imitation import backward_imitation, conversation_loss
from trainer.rlhf.policy import load_policy
from trainer.rlhf.pretrain import run_pretrain
from trainer.rlhf.rollout import derived_seed
from trainer.rlhf.sft import run_sft

TURNS = [
    ("What do you see?", "A garden full of birds."),
    ("And now?", "A train that is late again."),
    ("Sing.", "La la."),
]


def with_demonstrations(folder):
    lines = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in TURNS
    ]
    (folder.path / "demonstrations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def losses(folder, stage: str) -> list[float]:
    return [record["metrics"][f"{stage}/loss"] for record in folder.log(stage).records()]


def test_the_loss_is_the_cross_entropy_of_the_assistants_tokens_whatever_the_padding(tiny_base):
    policy = load_policy(tiny_base, dtype="float32", device="cpu")
    first = MaskedConversation([5, 6, 7, 8], [False, False, True, True])
    second = MaskedConversation([9, 10], [False, True])
    expected = 0.0
    for item in (first, second):
        with torch.no_grad():
            logprobs = policy.model(torch.tensor([item.input_ids])).logits[0].log_softmax(-1)
        places = [place for place, is_wanted in enumerate(item.is_assistant) if is_wanted]
        expected -= sum(float(logprobs[place - 1, item.input_ids[place]]) for place in places)
    assert conversation_loss(policy, [first, second]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("lora", [{"r": 4, "alpha": 8}, None])
def test_fine_tuning_lowers_the_loss_and_publishes_a_parent(tmp_path, tiny_base, lora):
    sft = {"epochs": 8, "learning_rate": 0.02 if lora else 0.003, "conversations_per_step": 2}
    folder = with_demonstrations(make_run(tmp_path, tiny_base, lora=lora, sft=sft))
    run_sft(folder, StopSignal())
    found = losses(folder, "sft")
    assert len(found) == 16
    assert sum(found[-2:]) < 0.7 * sum(found[:2])
    load_policy(tiny_base, adapter=folder.path / "sft" / "policy", dtype="float32")


def test_a_stopped_fine_tuning_ends_bit_identical(tmp_path, tiny_base):
    sft = {"epochs": 3, "conversations_per_step": 1}
    whole, broken = (with_demonstrations(make_run(tmp_path / name, tiny_base, sft=sft)) for name in ("a", "b"))
    run_sft(whole, StopSignal())
    stop = StopSignal()
    stop.is_set = True
    for _ in range(2):
        with pytest.raises(Stopped):
            run_sft(broken, stop)
    run_sft(broken, StopSignal())
    first, second = (load_file(folder.path / "sft/policy/adapter_model.safetensors") for folder in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert losses(whole, "sft") == losses(broken, "sft")


class Killed(BaseException):
    """As if the process were gone: nothing catches it."""


def test_a_killed_fine_tuning_has_saved_each_step_where_saving_is_cheap_beside_it(tmp_path, tiny_base, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVING_SHARE", 1.0)  # beside the tiny model's steps it is not
    folder = with_demonstrations(make_run(tmp_path, tiny_base, sft={"epochs": 2, "conversations_per_step": 1}))
    left = iter(range(3))

    def mortal(*given, **named):
        if next(left, None) is None:
            raise Killed
        return backward_imitation(*given, **named)

    monkeypatch.setattr(sft, "backward_imitation", mortal)
    with pytest.raises(Killed):
        run_sft(folder, StopSignal())
    assert [path.name for path in (tmp_path / "sft" / "state").glob("step-*")] == ["step-000003"]


def test_pre_training_learns_a_corpus(tmp_path, tiny_base):
    settings = {"epochs": 6, "learning_rate": 0.02, "block_tokens": 16, "blocks_per_step": 2}
    folder = make_run(tmp_path, tiny_base, pretrain=settings)
    (folder.path / "corpus.txt").write_text("The fox reads.\n\n" * 12)
    run_pretrain(folder, StopSignal())
    found = losses(folder, "pretrain")
    assert found[-1] < 0.6 * found[0]


@pytest.mark.parametrize(("stage", "run"), [("sft", run_sft), ("pretrain", run_pretrain)])
@pytest.mark.parametrize(("lora", "rate"), [({"r": 4, "alpha": 8}, 2e-4), (None, 2e-5)])
def test_an_adapter_and_full_weights_have_each_their_usual_rate(tmp_path, tiny_base, stage, run, lora, rate):
    """Adam's first step moves a weight by its rate, whatever the gradient."""
    folder = with_demonstrations(make_run(tmp_path, tiny_base, lora=lora))
    (folder.path / "corpus.txt").write_text("The fox reads.")
    run(folder, StopSignal())
    assert len(losses(folder, stage)) == 1
    policy = folder.path / stage / "policy"
    if lora:
        tensors = load_file(policy / "adapter_model.safetensors")
        moves = [value.abs().max() for name, value in tensors.items() if "lora_B" in name]  # they start at 0
    else:
        before, after = load_file(tiny_base / "model.safetensors"), load_file(policy / "model.safetensors")
        moves = [(after[name] - before[name]).abs().max() for name in after]
    assert float(max(moves)) == pytest.approx(rate, rel=0.01)


def test_blocks_hold_every_token_and_an_end_after_each_document(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    documents = ["The fox reads.", "Birds sing."]
    expected = []
    for document in documents:
        expected += [*tokenizer(document, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    blocks = cut_blocks(documents, tokenizer, 4)
    assert [token for block in blocks for token in block.input_ids] == expected
    assert all(len(block.input_ids) == 4 for block in list(blocks)[:-1])
    assert all(block.is_assistant == [True] * len(block.input_ids) for block in blocks)
    short = [len(block.input_ids) for block in cut_blocks(documents, tokenizer, len(expected) - 1)]
    assert short == [len(expected) - 1], "one token alone has nothing before it"


def test_a_corpus_takes_some_bytes_a_token(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    document = "The quick brown fox reads. " * 100
    cut_blocks([document], tokenizer, 256)  # what a first call loads stays
    tracemalloc.start()
    try:
        blocks = cut_blocks((document for _ in range(100)), tokenizer, 256)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    tokens = 100 * (1 + len(tokenizer(document, add_special_tokens=False)["input_ids"]))
    assert len(blocks) == -(-tokens // 256) and tokens > 50_000
    assert held / tokens < 6


def test_each_epoch_is_shuffled_once_and_the_same_whenever_it_is_taken_up(monkeypatch):
    drawn = []
    monkeypatch.setattr(supervised, "derived_seed", lambda *key: drawn.append(key) or derived_seed(*key))
    expected = []
    for epoch in range(3):
        order = list(range(7))
        random.Random(derived_seed(9, 5, epoch)).shuffle(order)
        expected += [order[:3], order[3:6], order[6:]]
    given = {"epochs": 3, "seed": 9}
    assert list(supervised.batches_of(7, 3, **given, done=0)) == expected
    assert len(drawn) == 3
    for done in range(10):
        assert list(supervised.batches_of(7, 3, **given, done=done)) == expected[done:]


def test_they_say_which_file_is_missing(tmp_path, tiny_base):
    folder = make_run(tmp_path, tiny_base)
    with pytest.raises(StageError, match="no demonstrations.jsonl"):
        run_sft(folder, StopSignal())
    (tmp_path / "demonstrations.jsonl").touch()
    with pytest.raises(StageError, match="^demonstrations.jsonl has no demonstration$"):
        run_sft(folder, StopSignal())
    with pytest.raises(StageError, match="no corpus.jsonl and no corpus.txt"):
        run_pretrain(folder, StopSignal())


def test_they_refuse_a_parent_of_another_kind_than_they_train(tmp_path, tiny_base):
    """An adapter trained on a whole model's weights would be published as one of the base."""
    folder = with_demonstrations(make_run(tmp_path / "a", tiny_base, parent=str(tiny_base)))
    with pytest.raises(StageError, match="the parent is a whole model, but lora is set"):
        run_sft(folder, StopSignal())
    lost = with_demonstrations(make_run(tmp_path / "b", tiny_base, parent=str(tmp_path / "nowhere")))
    for name in ("", "reward/model"):
        another = with_demonstrations(make_run(tmp_path / "c", tiny_base, parent=str(tmp_path / "d" / name)))
        with_reward_model(make_run(tmp_path / "d", tiny_base), tiny_base)
        with pytest.raises(StageError, match=f"the parent .*d/?{name} is no checkpoint: name a folder such as"):
            run_sft(another, StopSignal())
    with pytest.raises(StageError, match="there is no parent checkpoint in .*nowhere"):
        run_sft(lost, StopSignal())
