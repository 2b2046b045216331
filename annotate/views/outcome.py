"""What a write tells its author: done, or why not."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib import messages

from annotate.errors import Refused


@contextmanager
def told(request, sentence: str) -> Iterator[None]:
    """Say `sentence` on the next page when the block is through; where a service refuses, say its reason instead."""
    try:
        yield
    except Refused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, sentence)
