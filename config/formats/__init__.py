"""Where a language writes numbers otherwise than Django says: one module of formats a language."""
