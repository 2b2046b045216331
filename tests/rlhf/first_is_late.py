"""`trainer.rlhf` as one of two processes, the first of which begins when the other has had time to fail."""

import os
import sys
import time

from trainer.rlhf.__main__ import main

if __name__ == "__main__":
    if os.environ["RANK"] == "0":
        time.sleep(3)
    sys.exit(main(sys.argv[1:]))
