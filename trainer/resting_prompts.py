"""Prompts that the generate worker leaves alone for a while: what it last tried for them gave no comparison.

It is kept in the worker's memory: another worker, or this one begun anew, finds the same out with one batch.
"""

from dataclasses import dataclass, field
from time import monotonic

from annotate.models import PolicyCheckpoint, Prompt, PromptPool

REST_SECONDS = 600.0  # it may have been chance, and nothing says so but another try


@dataclass
class Rest:
    """The prompts of one pool that rest, by number, until which moment; and why the last of them does."""

    settings: tuple
    until: dict[int, float] = field(default_factory=dict)
    why: str = ""

    def begin(self, prompts: list[Prompt], why: str) -> None:
        self.why = why
        self.until |= {prompt.pk: monotonic() + REST_SECONDS for prompt in prompts}


rests: dict[int, Rest] = {}  # by the pool's number


def rest_of(pool: PromptPool, serving: PolicyCheckpoint) -> Rest:
    """Those that rest now. None do once another checkpoint serves, or the pool has other settings."""
    settings = (serving.pk, pool.k, str(pool.sampling))
    rest = rests.get(pool.pk)
    if rest is None or rest.settings != settings:
        rest = rests[pool.pk] = Rest(settings)
    rest.until = {number: until for number, until in rest.until.items() if until > monotonic()}
    return rest
