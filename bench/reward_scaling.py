"""How the cost of a ranking grows: with K, with the length of its prompt, and with the number of rankings.

    make bench-reward-scaling    (python -m bench.reward_scaling --help lists what can be changed)

K and the prompt's length are varied on the default base: reading frozen features at every fourth layer (what the
probe costs) and one epoch of LoRA, each point a process of its own. Beside them stand the tokens that a trainer
computes which expands a ranking to its K(K-1)/2 pairs, two rows each, the prompt in every one.

The number of rankings is varied through the whole `reward` stage as a child process: texts in, probe, judge, votes
and report out. Time there is of a small model made from a config, as wide as the default (576) but two layers deep,
on texts of some 35 tokens a ranking, with pooling, layer and ridge given, three folds and three voters, in one
thread; what is held in memory for each ranking depends on none of these. Peaks are the child's own (`peak.py`).

Each axis, and each number of rankings, can be run alone, and the stage in pieces (`--piece-seconds`: it is stopped by
SIGTERM and goes on when the command is given again). Numbers are kept in a file for each device and dtype; tables and
plot show all that it has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.default_base import add_base_options, prepare_base, use_device
from bench.peak import peak_gb
from bench.reward_rankings import KIND, PLAIN, TOPICS, UNKIND

SIZES_K, PROMPT_TOKENS = (2, 4, 6, 9), (32, 64, 128, 256, 512)
COMPLETION_TOKENS = 24
TYPICAL_K, TYPICAL_PROMPT = 4, 128
INK, RIVAL = "#1f5fa8", "#9a6b1f"
WORDS = [word for text in (*TOPICS, *KIND, *UNKIND, *PLAIN) for word in text.split()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reward_scaling", description="What rankings cost.")
    add_base_options(parser)
    parser.add_argument("--axes", default="k,prompt,rankings")
    parser.add_argument("--few", type=int, default=8, help="rankings for each K and prompt length")
    parser.add_argument("--rankings", default="1000,10000,100000", help="numbers of rankings for the whole stage")
    parser.add_argument("--piece-seconds", type=float, help="stop the stage after so long; run again to go on")
    parser.add_argument("--work", type=Path, default=Path("var/bench/reward-scaling"), help="where the stage runs")
    parser.add_argument("--plot", type=Path, default=Path("docs/images/reward-scaling.png"))
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        use_device(options.device)
        k, prompt_tokens = map(int, options.point.split(","))
        print(json.dumps(measure_point(options, k, prompt_tokens)))
        return
    prepare_base(options)
    options.work /= f"{options.device}-{options.dtype}"  # else tables would hold rows of different devices
    options.work.mkdir(parents=True, exist_ok=True)
    kept = options.work / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for axis in options.axes.split(","):
        for row in measurements(options, axis):
            rows = {kept_row[axis]: kept_row for kept_row in results.get(axis, [])} | {row[axis]: row}
            results[axis] = [rows[value] for value in sorted(rows)]
            kept.write_text(json.dumps(results, indent=1))
    print_tables(results)
    draw(results, options.plot)


def measurements(options: argparse.Namespace, axis: str) -> Iterator[dict[str, float]]:
    """The measurements along one axis, in order."""
    if axis == "rankings":
        yield from (run_stage(options, int(count)) for count in options.rankings.split(","))
    elif axis == "k":
        yield from (_child(options, k, TYPICAL_PROMPT) for k in SIZES_K)
    else:
        yield from (_child(options, TYPICAL_K, tokens) for tokens in PROMPT_TOKENS)


def _child(options: argparse.Namespace, k: int, prompt_tokens: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.reward_scaling", "--point", f"{k},{prompt_tokens}"]
    command += ["--base", str(options.base), "--device", options.device, "--dtype", options.dtype]
    command += ["--few", str(options.few)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def pair_tokens(k: int, prompt_tokens: int) -> int:
    """Tokens of one ranking as pairs: K(K-1)/2 of them, two rows each, the prompt in every row."""
    return k * (k - 1) * (prompt_tokens + COMPLETION_TOKENS)


def measure_point(options: argparse.Namespace, k: int, prompt_tokens: int) -> dict[str, float]:
    """Frozen features and LoRA on rankings of random tokens, whose cost depends on their numbers alone."""
    import torch

    from trainer.rlhf.config import LoraConfig, RewardConfig
    from trainer.rlhf.data import Completion, Ranking
    from trainer.rlhf.folder import MetricsLog, StopSignal
    from trainer.rlhf.journal import Journal
    from trainer.rlhf.packing import Group
    from trainer.rlhf.pairs import pairs_of
    from trainer.rlhf.policy import load_policy
    from trainer.rlhf.processes import ALONE
    from trainer.rlhf.reward_head import Reading, RewardHead
    from trainer.rlhf.reward_tuning import Lesson, make_trainee, tune
    from trainer.rlhf.trunk import depth, pooled_features

    policy = load_policy(options.base, dtype=options.dtype, device=options.device)
    draw = random.Random(k * 1000 + prompt_tokens)

    def ids(count: int) -> list[int]:
        return draw.choices(range(100, 40_000), k=count)

    groups = [Group(ids(prompt_tokens), [ids(COMPLETION_TOKENS) for _ in range(k)]) for _ in range(options.few)]
    completions = tuple(Completion(str(place), str(place)) for place in range(k))
    rankings = [
        Ranking(str(number), str(number), [], completions, tuple(draw.sample(range(1, k + 1), k)))
        for number in range(options.few)
    ]
    layers, size = depth(policy.model), policy.model.config.hidden_size
    started = time.monotonic()
    pooled_features(
        policy.model,
        groups,
        readings=[(pooling, layer) for pooling in ("mean", "last") for layer in range(0, layers + 1, 4)],
        pad_id=policy.pad_id,
        max_tokens=4096,
    )
    reading, reading_peak = time.monotonic() - started, 1024 * peak_gb(options.device)
    torch.manual_seed(1)
    start = RewardHead((Reading("last", layers),), torch.randn(1, size) / math.sqrt(size + 1))
    trainee = make_trainee(policy, start, LoraConfig(), torch.ones(1, size), seed=1)
    journal = Journal(MetricsLog(Path("unused"), "reward"), StopSignal(), is_writing=False)
    started = time.monotonic()
    lesson = Lesson(rankings, groups, pairs_of(rankings))
    tune(trainee, lesson, RewardConfig(), seed=1, state=None, journal=journal, processes=ALONE)
    return {
        "k": k,
        "prompt": prompt_tokens,
        "tokens": groups[0].tokens,
        "pair_tokens": pair_tokens(k, prompt_tokens),
        "reading_per_second": options.few / reading,
        "reading_peak_mb": reading_peak,
        "lora_per_second": options.few / (time.monotonic() - started),
        "lora_peak_mb": 1024 * peak_gb(options.device),
    }


def run_stage(options: argparse.Namespace, count: int) -> dict[str, float]:
    """The whole `reward` stage on so many rankings: seconds and the child's own peak; ends the program if stopped."""
    folder = options.work / f"run-{count}"
    if not folder.exists():
        folder.mkdir()
        write_rankings(folder / "rankings.jsonl", count)
        config = {
            "base_model": str(small_base(options).resolve()),
            "dtype": options.dtype,
            "reward": {"train": "probe", "pooling": "mean", "layer": 1, "l2": 1.0, "folds": 3, "ensemble": 3},
        }
        (folder / "config.json").write_text(json.dumps(config))
    kept = folder / "pieces.json"
    pieces = json.loads(kept.read_text()) if kept.exists() else []
    code, seconds, peak_mb = run_piece(folder, options.device, options.piece_seconds)
    kept.write_text(json.dumps([*pieces, (seconds, peak_mb)]))
    if code == 75:
        raise SystemExit(f"stopped after {seconds:.0f} seconds at a peak of {peak_mb:.0f} MB; run again to go on")
    if code:
        raise SystemExit(f"the reward stage failed: {(folder / 'error.json').read_text()}")
    seconds, peaks = zip(*pieces, (seconds, peak_mb), strict=True)
    lines = [json.loads(line) for line in (folder / "reward" / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((folder / "reward" / "report.json").read_text())
    shutil.rmtree(folder)
    return {
        "rankings": count,
        "seconds": sum(seconds),
        "tokens": sum(line["metrics"].get("reward/tokens", 0) for line in lines),
        "peak_mb": max(peaks),
        "accuracy": report["accuracy"]["value"],
    }


def run_piece(folder: Path, device: str, limit: float | None) -> tuple[int, float, float]:
    """Exit code, seconds and peak in MB of one child, which gets SIGTERM after `limit` seconds.

    Raises `SystemExit` where it was killed before it could tell its peak.
    """
    started, peak_file = time.monotonic(), folder / "peak"
    peak_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.stage", device, str(peak_file), "reward", str(folder)]
    child = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    timer = threading.Timer(limit or threading.TIMEOUT_MAX, child.send_signal, (signal.SIGTERM,))
    timer.daemon = True
    timer.start()
    code = child.wait()
    timer.cancel()
    if not peak_file.exists():
        raise SystemExit(f"the reward stage was killed (exit code {code}): out of memory? Run again to go on")
    return code, time.monotonic() - started, 1024 * float(peak_file.read_text(encoding="utf-8"))


def small_base(options: argparse.Namespace) -> Path:
    """Two random layers as wide as the default base's, with its tokenizer and a template of a few tokens."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = options.work / "base"
    if folder.exists():
        return folder
    tokenizer = AutoTokenizer.from_pretrained(options.base)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=576,
        intermediate_size=288,
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(1)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rankings(path: Path, count: int) -> None:
    """Short rankings of K = 4, kind words preferred, a prompt each."""
    with path.open("w") as file:
        for number in range(count):
            draw = random.Random(number)
            texts, keys = [], []
            for _ in range(4):
                kind = draw.randint(0, 3)
                texts.append(" ".join(draw.sample(KIND, kind) + draw.sample(UNKIND, 3 - kind) + draw.sample(PLAIN, 1)))
                keys.append(2.0 * kind - math.log(-math.log(draw.random())))
            order = sorted(range(4), key=lambda place: -keys[place])
            record = {
                "id": str(number),
                "prompt": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=8))}],
                "completions": [{"id": str(place), "text": text} for place, text in enumerate(texts)],
                "ranks": [order.index(place) + 1 for place in range(4)],
                "annotator": f"annotator {number % 20}",
            }
            file.write(json.dumps(record) + "\n")


def print_tables(results: dict[str, list[dict[str, float]]]) -> None:
    """Markdown, as it stands in docs/log.md."""
    for axis, name in (("k", "K"), ("prompt", "prompt tokens")):
        if axis in results:
            print(f"\n| {name} | tokens a ranking, packed | as pairs | times | reading | LoRA |")
            print("|---|---|---|---|---|---|")
        for row in results.get(axis, []):
            ratio = f"{row['pair_tokens'] / row['tokens']:.1f}"
            cells = (row[axis], row["tokens"], row["pair_tokens"], ratio, _speed(row, "reading"), _speed(row, "lora"))
            print(f"| {' | '.join(map(str, cells))} |")
    if "rankings" in results:
        print("\n| rankings | seconds | rankings/s | tokens/s | peak MB | more bytes a ranking | accuracy |")
        print("|---|---|---|---|---|---|---|")
    before: dict[str, Any] | None = None
    for row in results.get("rankings", []):
        more = "–"
        if before:
            more = f"{(row['peak_mb'] - before['peak_mb']) * 2**20 / (row['rankings'] - before['rankings']):.0f}"
        speeds = (row["rankings"] / row["seconds"], row["tokens"] / row["seconds"])
        numbers = (row["seconds"], *speeds, row["peak_mb"])
        cells = (row["rankings"], *(f"{number:.0f}" for number in numbers), more, f"{row['accuracy']:.3f}")
        print(f"| {' | '.join(map(str, cells))} |")
        before = row


def _speed(row: dict[str, float], way: str) -> str:
    speed = row[f"{way}_per_second"]
    return f"{speed:.2f} rankings/s, {speed * row['tokens']:.0f} tokens/s, peak {row[f'{way}_peak_mb']:.0f} MB"


def draw(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Tokens a ranking against K, speed against the prompt's length, peak memory against the number of rankings."""
    from matplotlib.figure import Figure

    panels = {
        "k": ("Tokens computed for a ranking", "K", [("pair_tokens", "as pairs", RIVAL), ("tokens", "packed", INK)]),
        "prompt": (
            "Rankings a second, K = 4",
            "prompt tokens",
            [("reading_per_second", "reading features", INK), ("lora_per_second", "LoRA", RIVAL)],
        ),
        "rankings": ("Peak memory of the reward stage, MB", "rankings", [("peak_mb", None, INK)]),
    }
    measured = [axis for axis in panels if results.get(axis)]  # an axis that was left out gets no empty panel
    figure = Figure(figsize=(3.5 * len(measured), 3.2), layout="constrained")
    for axes, axis in zip(figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True):
        title, label, lines = panels[axis]
        rows = results[axis]
        for column, name, color in lines:
            axes.plot([row[axis] for row in rows], [row[column] for row in rows], "o-", color=color, label=name)
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=label, ylim=(0, 1.2 * max(row[column] for row in rows for column, *_ in lines)))
        if axis == "rankings":
            axes.set_xscale("log")
        else:
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
