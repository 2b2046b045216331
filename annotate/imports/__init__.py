"""Files of prompts, read row by row and checked; no database. `annotate.services.imports` puts them into a pool."""
