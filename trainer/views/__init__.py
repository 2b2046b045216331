"""Pages about the learning side: runs and checkpoints. Web processes: nothing here imports torch."""
