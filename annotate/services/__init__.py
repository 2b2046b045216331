"""Writes that touch more than one row. Keyword arguments, one exception per reason (`annotate.errors`)."""
