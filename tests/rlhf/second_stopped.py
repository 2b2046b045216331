"""`trainer.rlhf` as one of two processes, the second of which gets SIGTERM at its first line of progress.

Each leaves its exit code in the run folder: the launcher ends with its own.
"""

import os
import signal
import sys
from pathlib import Path

from trainer.rlhf.__main__ import main
from trainer.rlhf.journal import Journal

note = Journal.note


def note_and_stop(journal: Journal, *given, **named) -> None:
    note(journal, *given, **named)
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    Journal.note = note_and_stop
    code = main(sys.argv[1:])
    (Path(sys.argv[2]) / f"ended-{os.environ['RANK']}").write_text(str(code))
    sys.exit(code)
