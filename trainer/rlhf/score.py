"""`python -m trainer.rlhf score RUN_FOLDER --completions IN --out OUT [--reward-model FOLDER]`: scores, line by line.

In: `{"prompt": messages, "completions": [{"id", "text"}…], "id"?}` or `{"prompt", "text", "id"?}`.
Out: `{"id", "completions": [{"id", "score", "judge"?, "tokens": [[start, end, term]…]}…]}`. Start and end are places in
the text; the term of EOS stands at its end. With `mean` pooling the mean of the terms is the score, an exact
attribution; with `last` a term is the score of the completion had it ended there. Started anew after a kill or SIGTERM
it goes on behind the last whole line, if the input, the reward model and the configuration are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from trainer.rlhf.config import RunConfig
from trainer.rlhf.data import Completion, Messages, read_completions
from trainer.rlhf.encoding import encode_group, naming
from trainer.rlhf.folder import RunFolder, StageError, StopSignal
from trainer.rlhf.inputs import key_of
from trainer.rlhf.lines import UnfinishedLines
from trainer.rlhf.processes import join_processes
from trainer.rlhf.reward_model import RewardModel, load_reward_model
from trainer.rlhf.scoring import reward_model_folder


def run_score(
    folder: RunFolder, stop: StopSignal, *, completions: Path, out: Path, reward_model: Path | None = None
) -> None:
    """Scores a file of completions with the run's reward model, or that in a folder; `StageError` if there is none.

    Of several processes the first alone does.
    """
    if not join_processes().is_first:
        return
    path = reward_model_folder(folder, reward_model)
    if not path.exists():
        raise StageError("there is no reward/model: run the reward stage first")
    config = folder.config
    model = load_reward_model(path, dtype=config.dtype, trust_remote_code=config.trust_remote_code)
    inputs = (folder.path / "config.json", Path(config.base_model), path, completions)
    lines = UnfinishedLines(out, key_of("score", *inputs), read=(folder.path / "config.json", completions))
    for identity, prompt, texts in islice(read_completions(completions), lines.kept(), None):
        with naming(f"{completions.name}, “{identity}”"):
            lines.append([{"id": identity, "completions": list(score_completions(model, config, prompt, texts))}])
        stop.check()  # line by line: memory does not grow with the file
    lines.finish()


def score_completions(
    model: RewardModel, config: RunConfig, prompt: Messages, completions: tuple[Completion, ...]
) -> Iterator[dict[str, Any]]:
    """Score, judge's score and per-token terms of each completion of one prompt."""
    texts = [completion.text for completion in completions]
    limits = {
        "max_prompt_tokens": config.max_prompt_tokens,
        "max_completion_tokens": config.max_completion_tokens,
    }
    tokenizer = model.trunk.tokenizer
    group = encode_group(tokenizer, prompt, texts, **limits)
    judged = None
    if model.judge_head is not None:
        judged = model.judge_groups([encode_group(model.base.tokenizer, prompt, texts, **limits)]).tolist()
    for place, (completion, terms) in enumerate(zip(completions, model.explain_groups([group]), strict=True)):
        spans = tokenizer(completion.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        spans = [*spans, (len(completion.text),) * 2][: len(terms)]
        entry = {
            "id": completion.id,
            "score": float(terms.mean() if model.head.has_terms else terms[-1]),
            "tokens": [[*span, round(term, 5)] for span, term in zip(spans, terms.tolist(), strict=True)],
        }
        yield entry | ({"judge": judged[place]} if judged else {})
