"""Masked-language-model training: what is hidden, the loss by hand, and that a stopped stage ends as one left alone."""

from __future__ import annotations

import json
from array import array

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from tests.rlhf.run_folders import make_run
from trainer.rlhf.encoding import load_tokenizer
from trainer.rlhf.folder import RunFolder, StageError, Stopped, StopSignal
from trainer.rlhf.masked_lm import Block, Cloze, backward_cloze, cloze_blocks, cloze_loss, hide
from trainer.rlhf.policy import UnsupportedModel, load_policy
from trainer.rlhf.pretrain import run_pretrain
from trainer.rlhf.processes import ALONE, Processes


@pytest.fixture
def tokenizer(tiny_bert):
    return load_tokenizer(tiny_bert)


def with_corpus(folder: RunFolder) -> RunFolder:
    (folder.path / "corpus.txt").write_text("The quick fox reads a short story.\n\nBirds sing in the garden.\n\n" * 12)
    return folder


def test_it_hides_fifteen_percent_and_masks_most_of_these(tokenizer):
    words = [token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids]
    masked = kept = count = 0
    for number in range(50):
        block = Block(number, [tokenizer.cls_token_id, *words[:200], tokenizer.sep_token_id])
        cloze = hide(block, tokenizer, seed=1, epoch=0)
        assert len(set(cloze.places)) == 30 and not {0, 201} & set(cloze.places)
        assert cloze.targets == [block.input_ids[place] for place in cloze.places]
        changed = {place for place, token in enumerate(cloze.input_ids) if token != block.input_ids[place]}
        assert changed <= set(cloze.places)
        masked += sum(cloze.input_ids[place] == tokenizer.mask_token_id for place in cloze.places)
        kept += len(cloze.places) - len(changed)
        count += len(cloze.places)
    assert masked / count == pytest.approx(0.8, abs=0.03)
    assert kept / count == pytest.approx(0.1, abs=0.03)


def test_what_is_hidden_depends_on_seed_epoch_and_block_alone(tokenizer):
    ids = list(range(10, 110))
    first = hide(Block(3, ids), tokenizer, seed=1, epoch=2)
    assert hide(Block(3, ids), tokenizer, seed=1, epoch=2) == first
    others = [(Block(3, ids), 2, 2), (Block(3, ids), 1, 3), (Block(4, ids), 1, 2)]
    assert all(hide(block, tokenizer, seed=seed, epoch=epoch).places != first.places for block, seed, epoch in others)
    assert len(hide(Block(0, [7, tokenizer.sep_token_id]), tokenizer, seed=1, epoch=0).places) == 1


def test_blocks_hold_every_token_after_the_first_of_a_sequence(tokenizer):
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    blocks = cloze_blocks(array("I", [10, 11, 12, 13, 14, sep, 20, sep, sep]), tokenizer, 4)
    assert [list(block.input_ids) for block in blocks] == [[cls, 10, 11, 12], [cls, 13, 14, sep], [cls, 20, sep, sep]]
    assert cloze_blocks(array("I", [sep, sep]), tokenizer, 4) == []


@torch.no_grad()
def test_the_loss_is_the_cross_entropy_of_the_hidden_tokens_whatever_the_padding(tiny_bert):
    policy = load_policy(tiny_bert, dtype="float32", device="cpu", can_be_encoder=True)
    clozes = [Cloze([2, 4, 30, 40, 3], [1, 3], [25, 41]), Cloze([2, 4, 3], [1], [26])]
    expected = 0.0
    for cloze in clozes:
        logprobs = policy.model(torch.tensor([cloze.input_ids])).logits[0].log_softmax(-1)
        pairs = zip(cloze.places, cloze.targets, strict=True)
        expected -= sum(float(logprobs[place, token]) for place, token in pairs)
    assert cloze_loss(policy, clozes).item() == pytest.approx(expected, rel=1e-5)


class Share(Processes):
    """One of several processes, with nobody to sum with."""

    def sum(self, value):
        return value


def test_micro_batches_and_processes_add_up_to_the_same_gradient(tiny_bert, tokenizer):
    policy = load_policy(tiny_bert, dtype="float32", device="cpu", can_be_encoder=True)
    policy.model.requires_grad_(True)
    lengths = (40, 9, 23, 31, 12)
    clozes = [hide(Block(n, list(range(10, 10 + size))), tokenizer, seed=1, epoch=0) for n, size in enumerate(lengths)]
    weight = policy.model.get_input_embeddings().weight
    found = []
    for parts, size in (([ALONE], 5), ([ALONE], 2), ([Share(0, 2), Share(1, 2)], 2)):
        policy.model.zero_grad()
        loss = sum(backward_cloze(policy, clozes, blocks_per_pass=size, processes=part) for part in parts)
        found.append((loss, weight.grad.clone()))
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("lora", "rate", "left"), [({"r": 8, "alpha": 16}, 0.02, 0.99), (None, 0.005, 0.6)])
def test_pre_training_an_encoder_learns_a_corpus(tmp_path, tiny_bert, lora, rate, left):
    settings = {"epochs": 30, "learning_rate": rate, "block_tokens": 32, "blocks_per_step": 4}
    folder = with_corpus(make_run(tmp_path, tiny_bert, lora=lora, pretrain=settings))
    run_pretrain(folder, StopSignal())
    losses = [record["metrics"]["pretrain/loss"] for record in folder.log("pretrain").records()]
    assert sum(losses[-10:]) < left * sum(losses[:10]), "an adapter on random weights can learn little"
    product = folder.path / "pretrain" / "policy"
    if lora is None:
        AutoModelForMaskedLM.from_pretrained(product)
    load_policy(tiny_bert, adapter=product, dtype="float32", can_be_encoder=True)


def test_a_stopped_pre_training_ends_bit_identical(tmp_path, tiny_bert):
    settings = {"epochs": 2, "block_tokens": 64, "blocks_per_step": 2}
    whole, broken = (
        with_corpus(make_run(tmp_path / name, tiny_bert, lora=None, pretrain=settings)) for name in ("whole", "broken")
    )
    run_pretrain(whole, StopSignal())
    stop = StopSignal()
    stop.is_set = True
    for _ in range(3):
        with pytest.raises(Stopped):
            run_pretrain(broken, stop)
    run_pretrain(broken, StopSignal())
    first, second = (load_file(folder.path / "pretrain/policy/model.safetensors") for folder in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_encoder_is_refused_where_something_must_be_written(tiny_bert):
    with pytest.raises(UnsupportedModel, match="cannot write"):
        load_policy(tiny_bert)


def test_it_needs_a_token_to_hide_behind(tmp_path, tiny_bert):
    base = tmp_path / "base"
    load_policy(tiny_bert, dtype="float32", can_be_encoder=True).model.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).write_bytes((tiny_bert / name).read_bytes())
    config = json.loads((base / "tokenizer_config.json").read_text())
    config.pop("mask_token")
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(StageError, match="no mask token"):
        run_pretrain(with_corpus(make_run(tmp_path / "run", base)), StopSignal())
