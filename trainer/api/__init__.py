"""The learning side for programs: lineages, runs, checkpoints that answer, numbers for monitoring."""
