"""The one way in which starting fails."""


class CannotStart(SystemExit):
    """Something needed is missing or in the way; the message says what to do. Uncaught, it is all that is printed."""
