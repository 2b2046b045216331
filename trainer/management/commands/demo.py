"""Some turns of the loop on synthetic annotators, measured by the preference they hide. `make demo` runs it."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from statistics import mean

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from annotate.models import Policy, PolicyCheckpoint, Prompt, PromptPool
from annotate.oracles import load_oracle
from annotate.selectors import rankings_of_policy
from config.environment import PROJECT_ROOT
from trainer.demo_report import CheckpointRow, as_html, as_table
from trainer.models import TrainingRun
from trainer.oracle_wins import win_rate
from trainer.run_folder import adapter_path, run_folder
from trainer.services import start_run

SECONDS_BETWEEN_LOOKS = 2.0


class Command(BaseCommand):
    help = "Run turns of the loop on synthetic annotators and measure every checkpoint by their hidden preference."

    def add_arguments(self, parser):
        parser.add_argument("--oracle", default="positive", help="positive, concise, random, … or module:function")
        parser.add_argument("--turns", type=int, default=2)
        parser.add_argument("--rankings", type=int, default=200, help="rankings before each turn")
        parser.add_argument("--annotators", type=int, default=4)
        parser.add_argument("--samples", type=int, default=4, help="completions per held-out prompt and checkpoint")
        parser.add_argument("--url", default="", help="default: HOST and PORT")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--dry-run", action="store_true", help="only say whether these arguments will do")

    def handle(self, *args, **options):
        try:
            load_oracle(options["oracle"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        if options["dry_run"]:
            return
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
                stdout=self.stdout,
            )
            begun = time.monotonic()
            run = self.follow(start_run(policy=policy))
            if run.candidate is None:
                raise CommandError(f"{run} ended as {run.status}: {run.reason}")
            turn_seconds[run.candidate.number] = time.monotonic() - begun
            self.say(f"turn {turn}: {run.candidate.name} is {run.candidate.status}. {run.verdict['sentence']}")
        rows = self.measure(policy, turn_seconds, options)
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

    def measure(self, policy: Policy, turn_seconds: dict[int, float], options) -> list[CheckpointRow]:
        """Ask the oracle about fresh completions of every checkpoint on the prompts no training ever saw."""
        oracle = load_oracle(options["oracle"])
        checkpoints = list(policy.checkpoints.order_by("number"))
        newest = TrainingRun.objects.filter(policy=policy).exclude(candidate=None).first()
        written = {each.number: self.write_completions(each, newest, options) for each in checkpoints}
        prompts = Prompt.objects.in_bulk([int(pk) for pk in written[0]])
        asked = [prompts[int(pk)].messages[-1]["content"] for pk in written[0]]
        self.say(f"measured {len(checkpoints)} checkpoints on {len(prompts)} held-out prompts")
        base = texts_of(written[0].values())
        rows = []
        for checkpoint in checkpoints:
            lines = [written[checkpoint.number][pk] for pk in written[0]]
            texts = texts_of(lines)
            run = TrainingRun.objects.filter(candidate=checkpoint).first()
            rows.append(
                CheckpointRow(
                    name=checkpoint.name,
                    status=checkpoint.status,
                    rankings=run.snapshot.size if run else 0,
                    reward=checkpoint.metrics.get("reward", {}),
                    evaluation=checkpoint.metrics.get("evaluation", {}),
                    win_rate=win_rate(oracle, asked, texts, base) if checkpoint.number else None,
                    mean_words=mean(len(line["completion"].split()) for line in chain(*lines)),
                    mean_tokens=mean(len(line["token_ids"]) for line in chain(*lines)),
                    minutes=turn_seconds.get(checkpoint.number, 0.0) / 60,
                    example=(asked[0], texts[0][0]),
                )
            )
        return rows

    def write_completions(self, checkpoint: PolicyCheckpoint, run: TrainingRun, options) -> dict[str, list[dict]]:
        """Fresh completions of the run folder's held-out prompts by prompt: lines of the trainer's own `generate`."""
        adapter = adapter_path(checkpoint)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "completions.jsonl"
            command = [sys.executable, "-m", "trainer.rlhf", "generate", str(run_folder(run)), "--split", "held_out"]
            command += ["--checkpoint", str(adapter)] if adapter else ["--base"]
            # A seed of its own for each checkpoint: completions of two of them are independent draws.
            command += ["--seed", str(options["seed"] + checkpoint.number), "--samples", str(options["samples"])]
            subprocess.run([*command, "--out", str(target)], check=True, cwd=PROJECT_ROOT, capture_output=True)
            by_prompt: dict[str, list[dict]] = {}
            for line in map(json.loads, target.read_bytes().splitlines()):
                by_prompt.setdefault(line["prompt_id"], []).append(line)
        return by_prompt

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


def texts_of(prompts: Iterable[list[dict]]) -> list[list[str]]:
    return [[line["completion"] for line in lines] for lines in prompts]
