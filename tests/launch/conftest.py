import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def short_folder():
    """A temporary folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="whetstone-"))
    yield folder
    shutil.rmtree(folder)
