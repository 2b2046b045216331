"""Some turns of the loop on synthetic annotators, measured by the preference they hide. `make demo` runs it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from annotate.oracles import load_oracle
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from annotate.models import Policy, PolicyCheckpoint, PromptPool
from annotate.selectors import rankings_of_policy
from config.environment import PROJECT_ROOT
from trainer.demo_report import CheckpointRow, as_html, as_table
from trainer.models import TrainingRun
from trainer.oracle_wins import win_rate
from trainer.run_folder import adapter_path, base_model_path
from trainer.services import start_run

SECONDS_BETWEEN_LOOKS = 2.0


class Command(BaseCommand):
    help = "Run turns of the loop on synthetic annotators and measure every checkpoint by their hidden preference."

    def add_arguments(self, parser):
        parser.add_argument("--oracle", default="positive", help="positive, concise, random, … or module:function")
        parser.add_argument("--turns", type=int, default=2)
        parser.add_argument("--rankings", type=int, default=150, help="rankings before each turn")
        parser.add_argument("--annotators", type=int, default=4)
        parser.add_argument("--samples", type=int, default=4, help="completions per held-out prompt and checkpoint")
        parser.add_argument("--url", default="", help="default: HOST and PORT")
        parser.add_argument("--seed", type=int, default=1)

    def handle(self, *args, **options):
        self.started = time.monotonic()
        url = options["url"] or f"http://{settings.ENVIRONMENT.host}:{settings.ENVIRONMENT.port}"
        policy = Policy.objects.order_by("pk").first()
        # The turns start where this command says, so that each learns from the rankings the table names.
        Policy.objects.filter(pk=policy.pk).update(retrain_after=0)
        pool = PromptPool.objects.filter(policy=policy, status=PromptPool.Status.ACTIVE).first()
        pool.buffer_size = max(pool.buffer_size, 48)
        pool.save(update_fields=["buffer_size"])
        turn_seconds: dict[int, float] = {}
        for turn in range(1, options["turns"] + 1):
            self.say(f"turn {turn}: {options['rankings']} rankings by {options['annotators']} synthetic annotators")
            call_command(
                "simulate",
                annotators=options["annotators"],
                comparisons=options["rankings"],
                oracle=options["oracle"],
                pool=pool.pk,
                url=url,
                seed=options["seed"] + turn,
                verbosity=0,
            )
            begun = time.monotonic()
            run = self.follow(start_run(policy=policy))
            if run.candidate is None:
                raise CommandError(f"{run} ended as {run.status}: {run.reason}")
            turn_seconds[run.candidate.number] = time.monotonic() - begun
            self.say(f"turn {turn}: {run.candidate.name} is {run.candidate.status}. {run.verdict['sentence']}")
        rows = self.measure(policy, pool, turn_seconds, options)
        self.report(rows, policy, options)

    def follow(self, run: TrainingRun) -> TrainingRun:
        said = None
        while run.is_active:
            line = f"{run} {run.get_status_display()}"
            if run.stage and run.steps:
                left = f", {run.seconds_left / 60:.1f} min left" if run.seconds_left is not None else ""
                line += f": step {run.step} of {run.steps}{left}"
            if line != said:
                self.say(line)
                said = line
            time.sleep(SECONDS_BETWEEN_LOOKS)
            run.refresh_from_db()
        return run

    def measure(self, policy: Policy, pool: PromptPool, turn_seconds: dict[int, float], options) -> list[CheckpointRow]:
        """Ask the oracle about fresh completions of every checkpoint on the prompts no training ever saw."""
        oracle = load_oracle(options["oracle"])
        prompts = list(pool.prompts.filter(is_held_out=True, retired_at=None).order_by("id"))
        asked = [prompt.messages[-1]["content"] for prompt in prompts]
        checkpoints = list(policy.checkpoints.order_by("number"))
        self.say(f"measuring {len(checkpoints)} checkpoints on {len(prompts)} held-out prompts")
        written = {each.number: self.write_completions(each, prompts, options) for each in checkpoints}
        base = written[0]
        rows = []
        for checkpoint in checkpoints:
            texts = written[checkpoint.number]
            run = TrainingRun.objects.filter(candidate=checkpoint).first()
            rows.append(
                CheckpointRow(
                    name=checkpoint.name,
                    status=checkpoint.status,
                    rankings=run.snapshot.size if run else 0,
                    reward=checkpoint.metrics.get("reward", {}),
                    evaluation=checkpoint.metrics.get("evaluation", {}),
                    win_rate=win_rate(oracle, asked, texts, base, seed=options["seed"]) if checkpoint.number else None,
                    mean_words=mean_words(texts),
                    minutes=turn_seconds.get(checkpoint.number, 0.0) / 60,
                    example=(asked[0], texts[0][0]),
                )
            )
        return rows

    def write_completions(self, checkpoint: PolicyCheckpoint, prompts: list, options) -> list[list[str]]:
        """Fresh completions by the trainer's own `generate`, in a process of its own."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "prompts.jsonl", Path(folder) / "completions.jsonl"
            source.write_text(
                "".join(json.dumps({"id": str(p.pk), "messages": p.messages}) + "\n" for p in prompts), "utf-8"
            )
            command = [sys.executable, "-m", "trainer.rlhf", "generate", base_model_path(checkpoint.policy)]
            adapter = adapter_path(checkpoint)
            command += ["--adapter", str(adapter)] if adapter else []
            command += ["--prompts", str(source), "--output", str(target), "--samples", str(options["samples"])]
            command += ["--max-new-tokens", "40", "--seed", str(options["seed"])]
            subprocess.run(command, check=True, cwd=PROJECT_ROOT, env=os.environ)
            texts: dict[str, list[str]] = {}
            for line in target.read_text("utf-8").splitlines():
                row = json.loads(line)
                texts.setdefault(row["prompt_id"], []).append(row["text"])
        return [texts[str(prompt.pk)] for prompt in prompts]

    def report(self, rows: list[CheckpointRow], policy: Policy, options) -> None:
        minutes = (time.monotonic() - self.started) / 60
        title = (
            f"{options['turns']} turns, oracle “{options['oracle']}”, "
            f"{rankings_of_policy(policy).count()} rankings, {minutes:.1f} minutes"
        )
        page = settings.DATA_DIR / "demo.html"
        page.write_text(as_html(title, rows), "utf-8")
        self.stdout.write(f"\n{title}\n\n{as_table(rows)}\n\nThe page: {page}")

    def say(self, line: str) -> None:
        self.stdout.write(f"[{(time.monotonic() - self.started) / 60:5.1f} min] {line}")
        self.stdout.flush()


def mean_words(texts: list[list[str]]) -> float:
    words = [len(text.split()) for row in texts for text in row]
    return sum(words) / max(1, len(words))
