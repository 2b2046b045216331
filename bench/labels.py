"""How many labels buy what: win rate over the base against rankings used, with and without the choices of the recipe.

    make bench-labels            (python -m bench.labels --help lists what can be changed)

The default model writes 16 completions of each English starter prompt, four comparisons of K = 4 each. A hidden
preference (`annotate/oracles.py`) ranks them with Plackett-Luce noise, as `manage.py simulate` does, and N of the
rankings make a run folder: reward stage, PPO, then fresh completions of the held-out prompts, which the same preference
compares with the base's. The N rankings include those of held-out prompts, which only measure. `plain` is a run without
what the default recipe chose: the score is read from the last token of the last layer and paid there, the ridge fixed.
One seed a point: the interval is that of the prompts, and says nothing of another seed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from annotate.oracles import Oracle, load_oracle
from annotate.synthetic import noisy_scores, ranks_of
from bench.default_base import BASE_HELP, DEFAULT_BASE, ensure_base
from trainer.oracle_wins import WinRate, win_rate

PROMPTS_FILE = Path("annotate/starter/english.jsonl")
HELD_OUT_EVERY = 4  # every fourth prompt is held out
K, COMPARISONS = 4, 4  # of each prompt
NOISE = 0.1  # temperature of the annotators, as in `manage.py simulate`
COMPLETION_TOKENS = 40
SAMPLES_MEASURED = 4
PLAIN = {
    "reward": {"pooling": "last", "layer": 30, "l2": 1.0, "ensemble": 0},
    "ppo": {"score": {"is_dense": False}, "advantage": {"lam": 1.0}},
}
RECIPES: dict[str, dict[str, Any]] = {"default": {}, "plain": PLAIN}

Texts = dict[str, list[str]]


class Point(NamedTuple):
    """One run: what it was told, and what came out."""

    oracle: str
    recipe: str
    rankings: int
    accuracy: float
    length_only: float
    kl: float
    wins: WinRate
    words: float  # mean words over the base's
    minutes: float

    def row(self) -> str:
        return (
            f"| {self.oracle} | {self.recipe} | {self.rankings} | {self.accuracy:.0%} | {self.length_only:.0%} "
            f"| {self.kl:.1f} | {self.wins} | {self.words:.2f} | {self.minutes:.1f} |"
        )


HEADINGS = (
    *("oracle", "recipe", "rankings", "reward accuracy, held out", "length alone", "KL (nats)"),
    *("win rate over the base", "words over the base's", "minutes"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.labels", description="What labels buy.")
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE, help=BASE_HELP)
    parser.add_argument(
        "--folder", type=Path, default=Path("var/bench/labels"), help="runs; those there are not repeated"
    )
    parser.add_argument("--oracles", default="positive")
    parser.add_argument("--rankings", default="50,100,200,400")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--recipe", action="append", default=[], metavar="NAME=JSON", help="one more recipe")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="draw the curve into this file")
    options = parser.parse_args()
    recipes = RECIPES | {name: json.loads(text) for name, _, text in (each.partition("=") for each in options.recipe)}
    base_texts = written_by_base(options)
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", flush=True)
    points = []
    for oracle in options.oracles.split(","):
        for recipe in options.recipes.split(","):
            for rankings in map(int, options.rankings.split(",")):
                points.append(one_point(options, oracle, recipe, recipes[recipe], rankings, base_texts))
                print(points[-1].row(), flush=True)
    if options.plot:
        draw(points, options.plot)


def starter_prompts() -> list[dict[str, Any]]:
    """The prompts with the split that every run of this benchmark has."""
    lines = PROMPTS_FILE.read_bytes().splitlines()
    return [
        json.loads(line) | {"split": "held_out" if number % HELD_OUT_EVERY == 3 else "train"}
        for number, line in enumerate(lines)
    ]


def write_folder(path: Path, base: Path, recipe: dict[str, Any], seed: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    prompts = "".join(json.dumps(prompt) + "\n" for prompt in starter_prompts())
    (path / "prompts.jsonl").write_text(prompts, encoding="utf-8")
    config = {"base_model": str(base.resolve()), "seed": seed, "max_completion_tokens": COMPLETION_TOKENS} | recipe
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")


def written_by_base(options: argparse.Namespace) -> Texts:
    """The base's completions of every prompt, by prompt; made once."""
    ensure_base(options.base)
    folder = options.folder / "base"
    out = folder / "completions.jsonl"
    if not out.exists():
        write_folder(folder, options.base, {}, options.seed)
        program("generate", folder, "--base", "--samples", str(K * COMPARISONS), "--out", str(out))
    return texts_in(out)


def texts_in(path: Path) -> Texts:
    texts: Texts = {}
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        texts.setdefault(record["prompt_id"], []).append(record["completion"])
    return texts


def program(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "trainer.rlhf", *map(str, arguments)], check=True)


def one_point(
    options: argparse.Namespace, oracle_name: str, recipe_name: str, recipe: dict, rankings: int, base: Texts
) -> Point:
    """One run from rankings to a win rate; stages that stand are not repeated."""
    oracle, began = load_oracle(oracle_name), time.monotonic()
    folder = options.folder / f"{oracle_name.replace(':', '.')}-{recipe_name}-{rankings}-{options.seed}"
    write_folder(folder, options.base, recipe, options.seed)
    lines = ranked(oracle, base, rankings, options.seed)
    (folder / "rankings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    program("reward", folder)
    program("ppo", folder)
    out = folder / "completions.jsonl"
    if not out.exists():
        options_of = ("--split", "held_out", "--samples", str(SAMPLES_MEASURED), "--seed", "7")
        program("generate", folder, *options_of, "--out", out)
    report = json.loads((folder / "reward" / "report.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "ppo" / "policy" / "manifest.json").read_text(encoding="utf-8"))
    ours = texts_in(out)
    theirs = [base[prompt] for prompt in ours]
    asked = {prompt["id"]: prompt["messages"][-1]["content"] for prompt in starter_prompts()}
    return Point(
        oracle_name,
        recipe_name,
        rankings,
        report["accuracy"]["value"],
        report["length_baseline"]["value"],
        manifest["kl"],
        win_rate(oracle, [asked[prompt] for prompt in ours], list(ours.values()), theirs),
        mean_words(list(ours.values())) / mean_words(theirs),
        (time.monotonic() - began) / 60,
    )


def ranked(oracle: Oracle, base: Texts, count: int, seed: int) -> list[dict[str, Any]]:
    """`count` rankings, the first of one shuffled order of all comparisons: fewer are a part of more."""
    rng = random.Random(seed)
    comparisons = [(prompt, start) for prompt in starter_prompts() for start in range(0, K * COMPARISONS, K)]
    rng.shuffle(comparisons)
    lines = []
    for number, (prompt, start) in enumerate(comparisons[:count]):
        texts = base[prompt["id"]][start : start + K]
        scores = oracle(prompt["messages"][-1]["content"], texts)
        lines.append(
            {
                "id": str(number),
                "prompt_id": prompt["id"],
                "prompt": prompt["messages"],
                "completions": [{"id": f"{start + place}", "text": text} for place, text in enumerate(texts)],
                "ranks": ranks_of(noisy_scores(scores, NOISE, rng)),
                "split": prompt["split"],
            }
        )
    return lines


def mean_words(texts: list[list[str]]) -> float:
    counts = [len(text.split()) for row in texts for text in row]
    return sum(counts) / len(counts)


def draw(points: list[Point], path: Path) -> None:
    """Win rate against rankings, a line for each oracle and recipe."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for oracle, recipe in dict.fromkeys((point.oracle, point.recipe) for point in points):
        line = [point for point in points if (point.oracle, point.recipe) == (oracle, recipe)]
        values = [point.wins.value for point in line]
        errors = [
            [value - point.wins.low for value, point in zip(values, line, strict=True)],
            [point.wins.high - value for value, point in zip(values, line, strict=True)],
        ]
        axes.errorbar(
            [point.rankings for point in line], values, errors, marker="o", capsize=3, label=f"{oracle}, {recipe}"
        )
    axes.axhline(0.5, color="grey", linestyle=":")
    axes.set(xscale="log", xlabel="rankings", ylabel="win rate over the base", ylim=(0.3, 1))
    axes.set_xticks(sorted({point.rankings for point in points}), sorted({point.rankings for point in points}))
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
