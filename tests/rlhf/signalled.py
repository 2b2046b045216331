"""`trainer.rlhf` as a program that gets a signal while it writes lines, so that where it ends is no matter of speed.

    python -m tests.rlhf.signalled SIGKILL 3 generate RUN_FOLDER --out FILE

At its third writing it gets the signal: SIGKILL with half of the letters written, any other before it writes.
"""

import json
import os
import signal
import sys
from itertools import count

from trainer.rlhf.__main__ import main
from trainer.rlhf.lines import UnfinishedLines

calls, append = count(1), UnfinishedLines.append


def append_under_fire(lines: UnfinishedLines, records) -> None:
    records = list(records)
    if next(calls) == int(sys.argv[2]):
        if sys.argv[1] == "SIGKILL":
            text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            with lines.path.open("a", encoding="utf-8") as file:
                file.write(text[: len(text) // 2])
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    append(lines, records)


if __name__ == "__main__":
    UnfinishedLines.append = append_under_fire
    sys.exit(main(sys.argv[3:]))
