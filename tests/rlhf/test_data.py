"""Files in and out: records, errors that name line and field, other projects' formats, token ids."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from trainer.rlhf.data import (
    DataError,
    Ranking,
    parse_ranking,
    prompt_draw,
    prompt_key,
    read_completions,
    read_corpus,
    read_demonstrations,
    read_prompts,
    read_rankings,
)
from trainer.rlhf.encoding import (
    ConversationError,
    encode_completion,
    encode_conversation,
    encode_prompt,
    load_tokenizer,
)
from trainer.rlhf.imports import from_hh, from_moss, from_trl, main, write_rankings
from trainer.rlhf.ranking_file import RankingFile, deal_prompts, split_by_prompt

QUESTION = [{"role": "user", "content": "What do you think about rain?"}]
RANKING = {
    "id": "r1",
    "prompt_id": "p1",
    "prompt": QUESTION,
    "completions": [{"id": "a", "text": "Lovely."}, {"id": "b", "text": "Awful."}, {"id": "c", "text": "Wet."}],
    "ranks": [1, 3, 2],
}


def saying(text):
    return [{"role": "user", "content": f"What is {text}?"}]


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_it_reads_a_ranking(tmp_path):
    full = RANKING | {"weight": 2, "strength": 0.5, "annotator": "alice", "checkpoints": ["0", "0", "1"]}
    (ranking,) = read_rankings(write(tmp_path / "rankings.jsonl", full | {"a column of another tool": 1}))
    assert (ranking.id, ranking.prompt_id, ranking.ranks) == ("r1", "p1", (1, 3, 2))
    assert [completion.text for completion in ranking.completions] == ["Lovely.", "Awful.", "Wet."]
    assert (ranking.weight, ranking.strength, ranking.annotator) == (2.0, 0.5, "alice")
    assert ranking.checkpoints == ("0", "0", "1")


def test_it_gives_the_same_conversation_the_same_prompt_id(tmp_path):
    plain = {key: value for key, value in RANKING.items() if key != "prompt_id"}
    other = plain | {"prompt": [{"role": "user", "content": "And snow?"}]}
    ids = [r.prompt_id for r in read_rankings(write(tmp_path / "rankings.jsonl", plain, other, plain))]
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "rankings.jsonl, line 2, field “id”: must be a string"),
        ({"prompt": []}, "rankings.jsonl, line 2, field “prompt”: must be a list of at least one {role, content}"),
        ({"prompt": [{"role": "boss", "content": ""}]}, "line 2, field “prompt\\[0\\].role”: must be one of system"),
        ({"prompt": [{"role": "user"}]}, "line 2, field “prompt\\[0\\].content”: must be a string"),
        ({"completions": [{"id": "a", "text": "x"}]}, "line 2, field “completions”: must be a list of at least 2"),
        ({"completions": [{"text": "x"}, {"text": 3}]}, "line 2, field “completions\\[1\\].text”: must be a string"),
        ({"completions": [{"id": 1, "text": "x"}] * 2}, "line 2, field “completions”: two completions have the same"),
        ({"ranks": [1, 2]}, "line 2, field “ranks”: 2 ranks for 3 completions"),
        ({"ranks": [0, 1, 2]}, "line 2, field “ranks”: must be a list of whole numbers from 1"),
        ({"ranks": [1.0, 2, 3]}, "line 2, field “ranks”: must be a list of whole numbers from 1"),
        ({"ranks": [2**31, 2, 3]}, "line 2, field “ranks”: must be a list of whole numbers from 1"),
        ({"weight": -1}, "line 2, field “weight”: must be a number from 0 up"),
        ({"strength": True}, "line 2, field “strength”: must be a number from 0 up"),
        ({"split": "test"}, "line 2, field “split”: must be one of train, held_out"),
        ({"annotator": 7}, "line 2, field “annotator”: must be a string"),
        ({"checkpoints": ["1"]}, "line 2, field “checkpoints”: must be a list of 3"),
    ],
)
def test_it_names_file_line_and_field(tmp_path, change, message):
    path = write(tmp_path / "rankings.jsonl", RANKING, RANKING | change)
    with pytest.raises(DataError, match=message):
        read_rankings(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{oops", "line 1: not JSON"),
        (b'{"id": "r1", "prompt', r"line 1: not JSON \(Unterminated string starting at: column 14\)"),
        (b'{"id": ', r"line 1: not JSON \(Expecting value: column 8\)"),
        (b"[1]", "line 1: not a JSON object"),
        (b'{"a": "\xff"}', "line 1: not UTF-8"),
    ],
)
def test_it_names_the_line_that_is_no_record(tmp_path, line, message):
    (tmp_path / "rankings.jsonl").write_bytes(line + b"\n")
    with pytest.raises(DataError, match=f"rankings.jsonl, {message}"):
        read_rankings(tmp_path / "rankings.jsonl")


def test_it_reads_prompts_completions_demonstrations_and_corpora(tmp_path):
    (prompt,) = read_prompts(write(tmp_path / "prompts.jsonl", {"id": 5, "messages": QUESTION, "split": "held_out"}))
    assert (prompt.id, prompt.messages, prompt.split) == ("5", QUESTION, "held_out")
    lines = write(tmp_path / "c.jsonl", {"prompt": QUESTION, "text": "x"}, {"id": "k", **RANKING})
    assert [(identity, len(texts)) for identity, _, texts in read_completions(lines)] == [("0", 1), ("r1", 3)]
    with pytest.raises(DataError, match="line 1, field “messages\\[0\\].role”: the last turn must be the assistant's"):
        read_demonstrations(write(tmp_path / "demonstrations.jsonl", {"messages": QUESTION}))
    (tmp_path / "corpus.txt").write_text("one\ntwo\n\n\nthree\n")
    assert list(read_corpus(tmp_path / "corpus.txt")) == ["one\ntwo", "three"]
    assert list(read_corpus(write(tmp_path / "corpus.jsonl", {"text": "one"}))) == ["one"]


def test_it_splits_by_prompt_and_holds_out_what_the_file_says():
    def of(prompt, split=None):
        return Ranking("r", prompt, saying(prompt), (), (), split=split)

    rankings = [of(f"p{number % 50}") for number in range(150)] + [of("p7", "held_out"), of("x", "train")]
    train, held_out = split_by_prompt(rankings, held_out_share=0.3, seed=1, splits={})
    ours, theirs = ({ranking.prompt_id for ranking in part} for part in (train, held_out))
    assert not ours & theirs and "p7" in theirs and "x" in ours
    assert 5 <= len(theirs) <= 25
    more, _ = split_by_prompt([*rankings, of("new")], held_out_share=0.3, seed=1, splits={})
    assert {ranking.prompt_id for ranking in more} >= ours
    _, least = split_by_prompt([of("a"), of("b")], held_out_share=1e-9, seed=1, splits={})
    assert len(least) == 1


def test_it_deals_only_prompts_of_which_nothing_is_said():
    def of(number, split=None):
        return Ranking("r", f"p{number}", saying(number), (), (), split=split)

    rankings = [of(number) for number in range(40)]
    by_words = prompt_key(rankings[19].prompt)
    splits = {f"p{number}": "train" for number in range(15)} | {"p15": "held_out", by_words: "train"}
    parts = split_by_prompt(rankings, held_out_share=0.9, seed=1, splits=splits)
    train, held_out = ({int(ranking.prompt_id[1:]) for ranking in part} for part in parts)
    assert train >= {*range(15), 19} and 15 in held_out and len(held_out) > 10
    _, least = split_by_prompt([*rankings[:15], of("x")], held_out_share=1e-9, seed=1, splits=splits)
    assert [ranking.prompt_id for ranking in least] == ["px"]
    _, least = split_by_prompt(rankings[:15], held_out_share=0.2, seed=1, splits=splits)
    assert len(least) == 1, "nothing could be measured otherwise"
    train, kept = split_by_prompt([of(15, "train"), of(1)], held_out_share=0.2, seed=1, splits=splits)
    assert [ranking.prompt_id for ranking in (*train, *kept)] == ["p1", "p15"], "of two that disagree"


def test_it_deals_an_exact_share_of_the_prompts():
    rankings = [Ranking("r", f"p{number % 20}", saying(number % 20), (), ()) for number in range(60)]
    rest, dealt = deal_prompts(rankings, share=0.3, seed=1)
    assert (len({r.prompt_id for r in rest}), len({r.prompt_id for r in dealt})) == (14, 6)
    assert not {r.prompt_id for r in rest} & {r.prompt_id for r in dealt} and len(rest) + len(dealt) == 60
    rest, dealt = deal_prompts(rankings, share=0.0, seed=1)
    assert (list(rest), list(dealt)) == (rankings, [])


def dealt_by(deal, texts, ids):
    """The rankings' numbers in each of the two parts that `deal` makes of prompts with these texts and ids."""
    named = enumerate(zip(texts, ids, strict=True))
    rankings = [Ranking(str(number), name, saying(text), (), ()) for number, (text, name) in named]
    return [{int(ranking.id) for ranking in part} for part in deal(rankings)]


DEALS = [
    lambda rankings: split_by_prompt(rankings, held_out_share=0.3, seed=1, splits={}),
    lambda rankings: deal_prompts(rankings, share=0.3, seed=1),
]


@pytest.mark.parametrize("deal", DEALS, ids=["split", "deal"])
def test_the_same_words_under_many_ids_are_on_one_side(deal):
    """As where a row's number is taken for the id of its prompt."""
    texts = [number % 20 for number in range(100)]
    parts = dealt_by(deal, texts, [f"row {number}" for number in range(100)])
    first, second = ({number % 20 for number in part} for part in parts)
    assert first and second and not first & second
    assert [len(part) for part in parts] == [5 * len(first), 5 * len(second)]
    once = dealt_by(deal, range(20), [f"row {number}" for number in range(20)])
    assert once == [first, second], "where the first id puts them, whatever comes after"


@pytest.mark.parametrize("deal", DEALS, ids=["split", "deal"])
def test_what_an_id_and_words_join_by_turns_is_on_one_side(deal):
    """The first and the last of three have neither id nor words in common."""
    texts = [text for number in range(20) for text in (f"{number}", f"{number}", f"{number} more")]
    ids = [f"{name}{number}" for number in range(20) for name in ("a", "b", "b")]
    first, second = ({number // 3 for number in part} for part in dealt_by(deal, texts, ids))
    assert first and second and not first & second


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_named_split_holds_for_all_ids_of_the_same_words(split):
    rankings = [Ranking(str(number), str(number), saying(number % 20), (), ()) for number in range(100)]
    rankings[3] = replace(rankings[3], split=split)
    parts = split_by_prompt(rankings, held_out_share=0.5, seed=1, splits={})
    part = {int(ranking.id) for ranking in parts[split == "held_out"]}
    assert {3, 23, 43, 63, 83} <= part


def test_the_sides_of_prompts_with_an_id_and_words_of_their_own_stay_as_they_were():
    """Drawn by id alone: run folders that exist are not to be dealt anew."""
    names = [f"p{number}" for number in range(40)]
    draws = {name: prompt_draw(name, 1) for name in names}
    held_out, dealt = (dealt_by(deal, names, names)[1] for deal in DEALS)
    assert held_out == {number for number, name in enumerate(names) if draws[name] < 0.3}
    assert dealt == {number for number, name in enumerate(names) if name in sorted(names, key=draws.get)[:12]}


def test_it_encodes_for_reward_training_what_sampling_would_have_written(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    prompt = encode_prompt(tokenizer, QUESTION, max_tokens=100)
    assert prompt.count(tokenizer.bos_token_id) == 2, "one for each turn, written by the template, none before it"
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    assert encode_prompt(tokenizer, QUESTION, max_tokens=5) == prompt[-5:]
    ids = encode_completion(tokenizer, "Lovely.", max_tokens=100)
    assert ids[-1] == tokenizer.eos_token_id and tokenizer.decode(ids[:-1]) == "Lovely."
    assert encode_completion(tokenizer, "Lovely.", max_tokens=len(ids)) == ids, "EOS was the last token allowed"
    assert encode_completion(tokenizer, "Lovely.", max_tokens=len(ids) - 1) == ids[:-1], "cut before its EOS"


def test_what_was_sampled_is_scored_as_it_was_wherever_a_limit_cut_it(tiny_base):
    """Three bytes, and tokens, a character: two of three cuts fall inside one."""
    tokenizer = load_tokenizer(tiny_base)
    whole = encode_completion(tokenizer, "你好，世界。", max_tokens=100)
    assert whole[-1] == tokenizer.eos_token_id
    differ = 0
    for cut in range(1, len(whole) + 1):
        sampled = whole[:cut]
        text = tokenizer.decode(sampled, skip_special_tokens=True)
        assert encode_completion(tokenizer, text, max_tokens=len(whole) + 9, sampled=sampled) == sampled
        assert encode_completion(tokenizer, text, max_tokens=cut, sampled=sampled) == sampled
        differ += encode_completion(tokenizer, text, max_tokens=cut) != sampled
    assert differ >= len(whole) // 2, "the text alone does not tell"


def test_ids_of_another_text_or_another_model_are_not_taken_for_those_of_this_one(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    own = encode_completion(tokenizer, "Lovely.", max_tokens=100)
    others = encode_completion(tokenizer, "Awful.", max_tokens=100)
    for ids in (others, [*own[:-1], len(tokenizer) + 5]):
        assert encode_completion(tokenizer, "Lovely.", max_tokens=100, sampled=ids) == own


def test_ids_that_a_stop_token_ended_which_is_not_special_are_taken_as_they_were_sampled(tiny_base):
    """Sampling leaves it out of the text; decoding leaves out only those that the tokenizer calls special."""
    tokenizer = load_tokenizer(tiny_base)
    words = tokenizer("Lovely.", add_special_tokens=False)["input_ids"]
    (stop,) = tokenizer("!", add_special_tokens=False)["input_ids"]
    assert encode_completion(tokenizer, "Lovely.", max_tokens=100, sampled=[*words, stop]) == [*words, stop]
    other = encode_completion(tokenizer, "Lovely.", max_tokens=100)
    assert encode_completion(tokenizer, "Lovely.", max_tokens=100, sampled=[*words, stop, stop]) == other


@pytest.mark.parametrize("ids", [[], [1, -1], [True], [True, 2], "1", "12", [1.0], ["1"], [None], [2**32]])
def test_it_refuses_token_ids_that_are_none(ids):
    record = {
        "id": "a",
        "prompt": [{"role": "user", "content": "?"}],
        "completions": [{"id": "x", "text": "one", "token_ids": ids}, {"id": "y", "text": "two"}],
        "ranks": [1, 2],
    }
    with pytest.raises(DataError, match=r"completions\[0\].token_ids”: must be a list of token ids, at least one"):
        parse_ranking(record, "rankings.jsonl, line 1")
    found = parse_ranking({**record, "completions": [{"text": "a", "token_ids": [5, 2]}, {"text": "b"}]}, "line 1")
    first, second = found.completions
    assert (list(first.token_ids), second.token_ids) == ([5, 2], None)


def test_it_masks_all_but_the_assistants_words(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    turns = [
        *QUESTION,
        {"role": "assistant", "content": "Lovely."},
        *QUESTION,
        {"role": "assistant", "content": "Wet."},
    ]
    ids, is_assistant = encode_conversation(tokenizer, turns)
    learned = tokenizer.decode([token for token, mine in zip(ids, is_assistant, strict=True) if mine])
    assert learned == "Lovely.<|im_end|>Wet.<|im_end|>"
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(ids) + "\n" == rendered
    first = encode_prompt(tokenizer, QUESTION, max_tokens=100) + encode_completion(tokenizer, "Lovely.", max_tokens=99)
    assert ids[: len(first)] == first, "SFT, reward model and PPO see the same ids"


def test_it_refuses_a_template_that_rewrites_earlier_turns(tiny_base):
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.chat_template = "{{ messages|length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    turns = [*QUESTION, {"role": "assistant", "content": "a"}, *QUESTION, {"role": "assistant", "content": "b"}]
    with pytest.raises(ConversationError):
        encode_conversation(tokenizer, turns)


def test_it_gives_a_tokenizer_without_them_a_template_and_a_pad(tiny_base, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.chat_template, tokenizer.pad_token = None, None
    tokenizer.save_pretrained(tmp_path)
    found = load_tokenizer(tmp_path)
    assert found.pad_token_id == found.eos_token_id
    assert found.decode(encode_prompt(found, QUESTION, max_tokens=99)) == (
        "User: What do you think about rain?\n\nAssistant: "
    )


def test_it_imports_hh():
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant:"
    (ranking,) = from_hh([{"chosen": f"{start} Good.", "rejected": f"{start} Bad."}])
    assert [turn["role"] for turn in ranking.prompt] == ["user", "assistant", "user"]
    assert [completion.text for completion in ranking.completions] == ["Good.", "Bad."]
    assert ranking.ranks == (1, 2)
    with pytest.raises(DataError, match="record 1, field “chosen”: must begin with"):
        list(from_hh([{"chosen": "Hello", "rejected": "Hello"}]))
    with pytest.raises(DataError, match="record 1, field “chosen”: must begin with “.*Human: ”"):
        list(from_hh([{"chosen": f"\n\nAssistant: {answer}", "rejected": "\n\nAssistant: No."} for answer in "ab"]))


def test_it_imports_trl_in_each_of_its_forms():
    answers = [{"role": "assistant", "content": "Good."}], [{"role": "assistant", "content": "Bad."}]
    forms = [
        {"prompt": QUESTION[0]["content"], "chosen": "Good.", "rejected": "Bad."},
        {"prompt": QUESTION, "chosen": answers[0], "rejected": answers[1]},
        {"chosen": QUESTION + answers[0], "rejected": QUESTION + answers[1]},
        {"prompt": QUESTION[0]["content"], "chosen": QUESTION + answers[0], "rejected": QUESTION + answers[1]},
    ]
    rankings = list(from_trl(forms))
    assert [ranking.prompt for ranking in rankings] == [QUESTION] * 4
    assert len({ranking.prompt_id for ranking in rankings}) == 1
    assert all([c.text for c in ranking.completions] == ["Good.", "Bad."] for ranking in rankings)
    assert list(from_trl([{"prompt": "p", "chosen": "same", "rejected": "same"}])) == []
    with pytest.raises(DataError, match="record 1, field “prompt”"):
        list(from_trl([{"chosen": "a", "rejected": "b"}]))


ANSWER, SYSTEM = {"role": "assistant", "content": "Good."}, {"role": "system", "content": "Be brief."}


def trl_record(*turns, **fields):
    """A record whose sides are these turns, and an answer each."""
    sides = {side: [*turns, {**ANSWER, "content": f"{side}."}] for side in ("chosen", "rejected")}
    return sides | fields


def test_it_takes_a_trl_prompt_once_wherever_it_stands():
    question, named = QUESTION[0]["content"], {**QUESTION[0], "name": None}
    records = [
        trl_record(SYSTEM, *QUESTION, prompt=question),
        trl_record(SYSTEM, *QUESTION, prompt=f" {question}\n"),
        trl_record(SYSTEM, *QUESTION, prompt=[named]),
        trl_record(SYSTEM, named, prompt=[SYSTEM, *QUESTION]),
        trl_record(SYSTEM, *QUESTION, prompt=None),
        trl_record(SYSTEM, *QUESTION, prompt=""),
        trl_record(*QUESTION, prompt=[SYSTEM]),
        trl_record(prompt=[SYSTEM, *QUESTION]),
    ]
    assert [ranking.prompt for ranking in from_trl(records)] == [[SYSTEM, *QUESTION]] * len(records)


def test_it_goes_on_from_a_trl_prompt_that_the_turns_continue():
    talk = [*QUESTION, ANSWER, *QUESTION]
    records = [trl_record(*talk[start:], prompt=talk[:start]) for start in (1, 2, 3)]
    assert [ranking.prompt for ranking in from_trl(records)] == [talk] * 3


@pytest.mark.parametrize("prompt", ["Another?", [{"role": "user", "content": "Another?"}], [SYSTEM, *QUESTION]])
def test_it_refuses_a_trl_prompt_beside_turns_that_begin_with_another(prompt):
    with pytest.raises(DataError, match="record 1, field “prompt”: is not among the turns of “chosen”"):
        list(from_trl([trl_record(*QUESTION, prompt=prompt)]))


def test_it_skips_what_hh_and_moss_hold_without_an_answer():
    start, turns = "\n\nHuman: Hi\n\nAssistant:", ["Hi", "Good."]
    hh = [
        {"chosen": f"{start} Good.", "rejected": f"{start} Bad.\n\nHuman: And?"},
        {"chosen": "\n\nHuman: Hi", "rejected": "\n\nHuman: Hi"},
        {"chosen": f"{start} Good.", "rejected": start},
        {"chosen": f"{start} Good.", "rejected": f"{start} Bad."},
    ]
    assert [ranking.completions[1].text for ranking in from_hh(hh)] == ["Bad."]
    moss = [
        {"chosen": turns, "rejected": rejected}
        for rejected in ([], ["Bad."], ["Hi", ""], ["Hi", "Bad.", "And?"], ["Hi", "Bad."])
    ]
    moss += [{"chosen": [], "rejected": []}, {"chosen": ["", *turns, "a"], "rejected": ["", *turns, "b"]}]
    assert [ranking.completions[1].text for ranking in from_moss(moss)] == ["Bad."]
    with pytest.raises(DataError, match="record 1, field “rejected”: must be a list of turns"):
        list(from_moss([{"chosen": turns, "rejected": "Bad."}]))


@pytest.mark.parametrize("form", ["lines", "list"])
def test_it_imports_files_as_the_hub_has_them(tmp_path, capsys, form):
    start = "\n\nHuman: Hi\n\nAssistant:"
    records = [{"chosen": f"{start} {answer}", "rejected": f"{start} x"} for answer in "ab"]
    source = tmp_path / "train.jsonl.gz"
    content = json.dumps(records) if form == "list" else "\n".join(map(json.dumps, records))
    source.write_bytes(gzip.compress(content.encode()))
    assert main(["hh", str(source), str(tmp_path / "rankings.jsonl")]) == 0
    assert [r.completions[0].text for r in RankingFile(tmp_path / "rankings.jsonl")] == ["a", "b"]
    source.write_bytes(gzip.compress(content.encode())[:-9])
    assert main(["hh", str(source), str(tmp_path / "rankings.jsonl")]) == 1
    assert "train.jsonl.gz: not a whole gzip file" in capsys.readouterr().err
    source.write_bytes(gzip.compress(b'{"chosen": 1}'))
    assert main(["hh", str(source), str(tmp_path / "rankings.jsonl")]) == 1
    assert "train.jsonl.gz, line 1, field “chosen”: must be a string" in capsys.readouterr().err


def import_lines(folder, *records):
    (folder / "trl.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert main(["trl", str(folder / "trl.jsonl"), str(folder / "rankings.jsonl")]) == 0
    return read_rankings(folder / "rankings.jsonl")


def test_it_keeps_split_annotator_and_language_where_they_are_ours(tmp_path):
    ours = {"annotator": "a1", "language": "zh"}
    found = import_lines(
        tmp_path,
        {"prompt": "p", "chosen": "a", "rejected": "b", "split": "held_out", **ours},
        {"prompt": "q", "chosen": "a", "rejected": "b", "split": "train", "annotator": 3, "language": ""},
        {"prompt": "r", "chosen": "a", "rejected": "b", "split": "test_prefs"},
    )
    said = [(ranking.split, ranking.annotator, ranking.language) for ranking in found]
    assert said == [("held_out", "a1", "zh"), ("train", None, None), (None, None, None)]


def test_imported_splits_that_hold_nothing_out_leave_it_to_the_run(tmp_path):
    found = import_lines(tmp_path, {"prompt": "p", "chosen": "a", "rejected": "b", "split": "train"})
    assert [ranking.split for ranking in found] == [None]


def test_it_imports_moss_with_its_strength(tmp_path):
    record = {"chosen": ["Hi", "Hello", "And?", "Good."], "rejected": ["Hi", "Hello", "And?", "Bad."]}
    rankings = list(from_moss([record, record | {"mean preference difference": -0.5}]))
    assert [turn["role"] for turn in rankings[0].prompt] == ["user", "assistant", "user"]
    assert [ranking.strength for ranking in rankings] == [None, 0.0]
    assert write_rankings(rankings, tmp_path / "rankings.jsonl") == 2
    assert read_rankings(tmp_path / "rankings.jsonl") == rankings


@pytest.mark.parametrize("form", ["lines", "list"])
def test_it_imports_a_file_and_says_what_it_skipped(tmp_path, capsys, form):
    separator = "\N{LINE SEPARATOR}"  # ends a line for Python, and none of JSON's
    records = [
        {"prompt": f"a{separator}b", "chosen": "Good.", "rejected": "Bad."},
        {"prompt": "p", "chosen": "same", "rejected": "same"},
    ]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    source = tmp_path / "trl.json"
    source.write_text("\n\n".join(lines) + "\n" if form == "lines" else f"[{','.join(lines)}]", encoding="utf-8")
    assert main(["trl", str(source), str(tmp_path / "rankings.jsonl")]) == 0
    assert "1 rankings written, 1 records without a preference skipped" in capsys.readouterr().out
    (ranking,) = read_rankings(tmp_path / "rankings.jsonl")
    assert ranking.prompt[0]["content"] == f"a{separator}b"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt"', "trl.json, line 2: not JSON"),
        ("[1]", "trl.json, record 1: not a JSON object"),
        (
            '{"chosen": [{"role": "assistant", "content": "a"}], "rejected": [{"role": "assistant", "content": "b"}]}',
            "trl.json, line 1, field “chosen”: has no turn before the answer",
        ),
        ('{"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}', "trl.json, line 1, field “prompt”"),
        ('{"chosen": [], "rejected": []}', "trl.json, line 1, field “chosen”: must end"),
        ('\n\n{"prompt": "p", "chosen": 3, "rejected": "b"}', "trl.json, line 3, field “chosen”"),
        ('[{"prompt": "p", "chosen": 3, "rejected": "b"}]', "trl.json, record 1, field “chosen”"),
        ('{"prompt": "p", "chosen": "a", "rejected": "b", "margin": "x"}', "line 1, field “margin”: must be a finite"),
        ('{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}', "line 1, field “prompt”: half a character (\\ud800"),
        ("", "trl.json: no preference among 0 records"),
    ],
)
def test_it_names_the_record_that_cannot_be_imported(tmp_path, capsys, content, words):
    source = tmp_path / "trl.json"
    source.write_text(content)
    assert main(["trl", str(source), str(tmp_path / "rankings.jsonl")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "rankings.jsonl").exists()


@pytest.mark.parametrize("content", ['{"prompt": "p", "chosen": "a", "rejected": "b"}', "[\n{}\n]", "Notes."])
def test_it_writes_over_no_source_where_the_output_was_forgotten(tmp_path, capsys, content):
    train, test = (tmp_path / f"{name}.jsonl" for name in ("train", "test"))
    train.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    test.write_text(content)
    assert main(["trl", str(train), str(test)]) == 1
    assert capsys.readouterr().err == "test.jsonl: exists and holds no rankings; the file to write comes last\n"
    assert test.read_text() == content


@pytest.mark.parametrize("content", ["", '{"id": "1", "ranks": [1, 2]}'])
def test_it_writes_over_rankings_and_an_empty_file(tmp_path, content):
    source, out = tmp_path / "train.jsonl", tmp_path / "rankings.jsonl"
    source.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    out.write_text(content)
    assert main(["trl", str(source), str(out)]) == 0
    assert [ranking.ranks for ranking in RankingFile(out)] == [(1, 2)]


def test_what_is_imported_by_itself_can_be_put_in_one_file(tmp_path):
    """HH's record is TRL's word for word, but the other one is preferred; the prompt is one."""
    sources = {
        "hh": {"chosen": "\n\nHuman: Hi\n\nAssistant: Good.", "rejected": "\n\nHuman: Hi\n\nAssistant: Bad."},
        "trl": {"prompt": "Hi", "chosen": "Bad.", "rejected": "Good."},
        "moss": {"chosen": ["Hi", "Good."], "rejected": ["Hi", "Worse."]},
    }
    both = ""
    for form, record in sources.items():
        (tmp_path / form).write_text(json.dumps(record))
        assert main([form, str(tmp_path / form), str(tmp_path / f"{form}.jsonl")]) == 0
        both += (tmp_path / f"{form}.jsonl").read_text()
    (tmp_path / "rankings.jsonl").write_text(both)
    rankings = RankingFile(tmp_path / "rankings.jsonl")
    assert len({ranking.id for ranking in rankings}) == 3
    assert len({ranking.prompt_id for ranking in rankings}) == 1


def test_a_record_has_the_id_it_had_wherever_it_stands_and_doubled_ones_are_told_apart(tmp_path):
    first, second = ({"prompt": "p", "chosen": chosen, "rejected": "b"} for chosen in "ac")
    (tmp_path / "one.jsonl").write_text(json.dumps(second))
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, (first, second, first, first))))
    assert (
        main(["trl", str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl"), str(tmp_path / "rankings.jsonl")]) == 0
    )
    ids = [ranking.id for ranking in RankingFile(tmp_path / "rankings.jsonl")]
    (own,), (other,) = ([ranking.id for ranking in from_trl([record])] for record in (first, second))
    assert ids == [other, own, f"{other}-2", f"{own}-2", f"{own}-3"]
    assert own != other


def test_it_says_that_there_is_no_file_to_import(tmp_path, capsys):
    assert main(["hh", str(tmp_path / "none.jsonl"), str(tmp_path / "rankings.jsonl")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'none.jsonl'}: No such file or directory\n"


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\uD83D", b"\xed\xa0\xbd"])
def test_it_names_the_line_and_the_field_with_half_a_character(tmp_path, half):
    (tmp_path / "corpus.jsonl").write_bytes(b'{"text": "a"}\n{"text": "' + half + b'"}\n')
    with pytest.raises(DataError, match="corpus.jsonl, line 2, field “text”: half a character"):
        list(read_corpus(tmp_path / "corpus.jsonl"))


def test_it_takes_whole_characters_that_are_escaped_as_two(tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(rb'{"text": "\ud83d\ude00"}')
    assert list(read_corpus(tmp_path / "corpus.jsonl")) == ["\N{GRINNING FACE}"]


def test_it_refuses_a_moss_turn_that_is_no_text():
    with pytest.raises(DataError, match=r"record 1, field “rejected\[1\]”: must be a string"):
        list(from_moss([{"chosen": ["Hi", "Hello"], "rejected": ["Hi", 1]}]))


def test_it_takes_the_margin_of_trl_for_the_strength():
    (ranking,) = from_trl([{"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2}])
    assert ranking.strength == 2.0


def test_it_names_the_line_of_a_corpus_that_is_not_utf_8(tmp_path):
    (tmp_path / "corpus.txt").write_bytes(b"one\r\n\r\ntwo\xff\n")
    with pytest.raises(DataError, match="corpus.txt, line 3: not UTF-8"):
        list(read_corpus(tmp_path / "corpus.txt"))


def test_it_refuses_two_prompts_with_one_id(tmp_path):
    lines = [json.dumps({"id": "1", "messages": [{"role": "user", "content": text}]}) for text in "aab"]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="^prompts.jsonl, line 3, field “id”: line 1 has the id 1 too$"):
        read_prompts(tmp_path / "prompts.jsonl")


def test_it_reads_files_that_begin_with_a_byte_order_mark(tmp_path):
    record = {"chosen": ["Hi", "Good."], "rejected": ["Hi", "Bad."]}
    for name, text in (("list", json.dumps([record])), ("lines", json.dumps(record))):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert main(["moss", str(tmp_path / name), str(tmp_path / "rankings.jsonl")]) == 0
        assert read_rankings(tmp_path / "rankings.jsonl")[0].completions[0].text == "Good."
    (tmp_path / "corpus.txt").write_text("one\n\ntwo", encoding="utf-8-sig")
    assert list(read_corpus(tmp_path / "corpus.txt")) == ["one", "two"]


@pytest.mark.parametrize("value", ["[" * 100_000, "1" * 5000], ids=["nested too deep", "a number too long"])
def test_it_names_the_line_that_json_can_hold_and_no_program_reads(tmp_path, value):
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"text": "one"}}\n{{"text": {value}\n')
    with pytest.raises(DataError, match="corpus.jsonl, line 2: not to be read"):
        list(read_corpus(path))
    (tmp_path / "list.json").write_text(f"[{value}")
    assert main(["trl", str(tmp_path / "list.json"), str(tmp_path / "rankings.jsonl")]) == 1
