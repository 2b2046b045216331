"""`generate` and `score`, killed while they write and started anew, write what they would have written undisturbed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rlhf.run_folders import make_run, with_reward_model
from trainer.rlhf import generate, score
from trainer.rlhf.__main__ import main
from trainer.rlhf.folder import COMPLETE, STOPPED, StageError
from trainer.rlhf.lines import UnfinishedLines


def signalled(name: str, call: int, *arguments: str) -> int:
    """The exit code of the program, which gets the signal at its writing number `call`."""
    command = [sys.executable, "-m", "tests.rlhf.signalled", name, str(call), *arguments]
    root, environment = Path(__file__).parents[2], os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=root, env=environment, stderr=subprocess.DEVNULL).returncode


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


@pytest.mark.parametrize("form", [["--unranked"], []])
def test_generate_goes_on_where_it_was_killed_and_where_it_was_stopped(tmp_path, tiny_base, monkeypatch, form):
    """Eight prompts, 32 completions each: four chunks. One stands after the kill, two more after SIGTERM."""
    folder = make_run(tmp_path / "run", tiny_base)
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    arguments = ["generate", str(folder.path), "--samples", "32", *form, "--out"]
    assert main([*arguments, str(whole)]) == COMPLETE
    assert signalled("SIGKILL", 2, *arguments, str(broken)) == -signal.SIGKILL
    (part,) = parts(tmp_path)
    assert not part.read_bytes().endswith(b"\n"), "the kill tore a line"
    assert signalled("SIGTERM", 2, *arguments, str(broken)) == STOPPED
    assert len(part.read_text().splitlines()) == len(whole.read_text().splitlines()) * 3 // 4
    assert not broken.exists()
    sampled, sample = [], generate.sample_ids
    monkeypatch.setattr(generate, "sample_ids", lambda *given, **named: sampled.append(1) or sample(*given, **named))
    assert main([*arguments, str(broken)]) == COMPLETE
    assert len(sampled) == 1, "the last chunk alone"
    assert broken.read_bytes() == whole.read_bytes()
    assert parts(tmp_path) == []


def test_score_goes_on_where_it_was_killed_and_where_it_was_stopped(tmp_path, tiny_base, monkeypatch):
    folder = make_run(tmp_path / "run", tiny_base)
    with_reward_model(folder, tiny_base)
    source = tmp_path / "completions.jsonl"
    prompt = [{"role": "user", "content": "Rain?"}]
    texts = ["Lovely.", "行分割\u2028，没有。", "", "Awful rain", "A fox.", "Birds"]
    source.write_text("".join(json.dumps({"prompt": prompt, "text": text}) + "\n" for text in texts))
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    arguments = ["score", str(folder.path), "--completions", str(source), "--out"]
    assert main([*arguments, str(whole)]) == COMPLETE
    assert len(whole.read_bytes().splitlines()) == len(texts)
    assert signalled("SIGKILL", 3, *arguments, str(broken)) == -signal.SIGKILL
    assert signalled("SIGTERM", 2, *arguments, str(broken)) == STOPPED
    (part,) = parts(tmp_path)
    assert part.read_bytes().count(b"\n") == 4
    scored, real = [], score.score_completions
    monkeypatch.setattr(score, "score_completions", lambda *given: scored.append(1) or real(*given))
    assert main([*arguments, str(broken)]) == COMPLETE
    assert len(scored) == 2
    assert broken.read_bytes() == whole.read_bytes()
    assert parts(tmp_path) == []


def test_nobody_goes_on_with_a_file_of_other_options(tmp_path, tiny_base):
    folder = make_run(tmp_path / "run", tiny_base)
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    arguments = ["generate", str(folder.path), "--samples", "32"]
    assert main([*arguments, "--seed", "2", "--out", str(whole)]) == COMPLETE
    assert signalled("SIGKILL", 3, *arguments, "--seed", "1", "--out", str(broken)) == -signal.SIGKILL
    assert len(parts(tmp_path)) == 1
    assert main([*arguments, "--seed", "2", "--out", str(broken)]) == COMPLETE
    assert broken.read_bytes() == whole.read_bytes()
    assert parts(tmp_path) == []


def test_it_keeps_whole_lines_down_to_a_step_and_cuts_the_rest(tmp_path):
    lines = UnfinishedLines(tmp_path / "out.jsonl", "k")
    assert lines.kept() == 0
    lines.append([{"n": number} for number in range(5)])
    with lines.path.open("a") as file:
        file.write('{"n": 5')
    assert lines.kept() == 5
    assert lines.path.read_text().endswith('{"n": 4}\n')
    assert lines.kept(step=2) == 4
    lines.append([{"n": "four"}])
    assert not lines.out.exists()
    lines.finish()
    assert [json.loads(line)["n"] for line in lines.out.read_text().splitlines()] == [0, 1, 2, 3, "four"]
    assert list(tmp_path.iterdir()) == [lines.out]


def test_a_folder_in_the_place_of_the_file_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(StageError, match=f"^{tmp_path} is a folder: name the file to write$"):
        UnfinishedLines(tmp_path, "k")


def test_lines_are_not_written_over_what_they_are_made_of(tmp_path, tiny_base, capsys):
    folder = make_run(tmp_path, tiny_base)
    prompts = (tmp_path / "prompts.jsonl").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "prompts.jsonl")
    for name in ("prompts.jsonl", "link"):
        assert main(["generate", str(tmp_path), "--out", str(tmp_path / name)]) == 1
        assert f"{tmp_path / name} is read for what is to be written" in capsys.readouterr().err
    assert (tmp_path / "prompts.jsonl").read_bytes() == prompts
    with_reward_model(folder, tiny_base)
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"prompt": [{"role": "user", "content": "Hi"}], "text": "Hello"}) + "\n")
    assert main(["score", str(tmp_path), "--completions", str(texts), "--out", str(texts)]) == 1
    assert f"{texts} is read for what is to be written" in capsys.readouterr().err


def test_lines_take_the_place_of_no_device_and_of_no_link(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "stdout").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "stdout"):
        with pytest.raises(StageError, match=f"{name} is no file"):
            UnfinishedLines(tmp_path / name, "key")
    with pytest.raises(StageError, match="there is no folder .*absent to write a.jsonl in"):
        UnfinishedLines(tmp_path / "absent" / "a.jsonl", "key")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "a.jsonl")
    lines = UnfinishedLines(tmp_path / "link", "key")
    lines.append([1])
    lines.finish()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "a.jsonl").read_text() == "1\n"
