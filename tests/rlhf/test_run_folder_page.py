"""docs/run-folder.md is held to the program: its keys and defaults, and its way from rankings to a policy."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from trainer.rlhf import __main__, imports
from trainer.rlhf.config import RunConfig

PAGE = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")


def test_it_shows_every_key_with_its_default():
    shown = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    assert shown == asdict(RunConfig(shown["base_model"]))


def test_its_commands_lead_from_preferences_to_a_policy(tmp_path, tiny_base, monkeypatch):
    """As they stand, but for a tiny base with few and small steps in place of the one they name."""
    monkeypatch.chdir(tmp_path)
    shell = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1]
    script = re.search(r"<<'END'.*?\n(.*?)\nEND\n", shell, re.DOTALL)[1]
    commands = [line.split("#")[0].split()[2:] for line in shell.splitlines() if line.startswith(".venv/bin/python -m")]
    lines = [
        {"prompt": f"What of {number} dogs?", "chosen": f"Great {number % 5}!", "rejected": f"Awful {number % 7}."}
        for number in range(30)
    ]
    Path("preferences.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("run").mkdir()
    small = {"max_completion_tokens": 4, "ppo": {"updates": 1, "prompts": 4, "samples": 2}, "evaluate": {"prompts": 2}}
    assert set(json.loads(re.search(r"echo '(.*?)'", shell)[1])) == {"base_model"}
    Path("run/config.json").write_text(json.dumps({"base_model": str(tiny_base), "dtype": "float32", **small}))
    for module, *arguments in commands:
        program = {"trainer.rlhf": __main__, "trainer.rlhf.imports": imports}[module]
        assert program.main(arguments) == 0
        if program is imports:
            subprocess.run([sys.executable, "-c", script], check=True)
    report = json.loads(Path("run/reward/report.json").read_text())
    assert report["accuracy"]["pairs"] == 3, "those that prompts.jsonl holds out, and no others"
    assert json.loads(Path("run/evaluation.json").read_text())["samples"]
    assert Path("run/ppo/policy/adapter_config.json").exists()
    assert len(Path("completions.jsonl").read_text().splitlines()) == 3
