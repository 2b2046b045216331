"""The progress of a stage whose steps are of several kinds: one count through all of them, and the time left."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.rlhf.folder import MetricsLog, Pace, StopSignal


class Journal:
    """Counts steps, writes a line for each, and knows whether a signal to stop has come."""

    def __init__(self, log: MetricsLog, stop: StopSignal, *, is_writing: bool = True):
        self.log, self.stop, self.is_writing = log, stop, is_writing
        self.step, self.steps, self.done = 0, 0, 0

    def plan(self, steps: int, *, done: int) -> None:
        """The number of steps to come; lines of the `done` steps whose results stand on disk stay, later ones go."""
        self.steps, self.done, self.pace = steps, done, Pace(steps)
        if self.is_writing:
            self.log.cut(done)

    def skip(self, steps: int = 1) -> None:
        """Steps whose results were found on disk, or that another process takes."""
        self.step += steps

    def note(self, metrics: Mapping[str, float] | None = None, *, message: str | None = None) -> None:
        """A step is done: its line, with the time left; none if it was done before a kill."""
        self.step += 1
        if self.is_writing and self.step > self.done:
            left = self.pace.left(self.step)
            self.log.append(self.step, self.steps, metrics, message=message, seconds_left=left)
