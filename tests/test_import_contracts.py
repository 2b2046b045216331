"""Who may import whom, and that a web process never loads a tensor library."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "trl", "scipy", "matplotlib")
LOAD_THE_WEB_SIDE = f"""
import sys, django
django.setup()
from importlib import import_module
from pkgutil import walk_packages
from django.urls import get_resolver
import annotate, config.wsgi
from config.celery import app

def load(patterns):
    for pattern in patterns:
        load(pattern.url_patterns) if hasattr(pattern, "url_patterns") else pattern.callback

load(get_resolver().url_patterns)
app.loader.import_default_modules()
for module in walk_packages(annotate.__path__, "annotate."):
    import_module(module.name)
assert {{"trainer.tasks.tick", "trainer.tasks.advance_run", "trainer.tasks.answer_chat"}} <= set(app.tasks)
heavy = [name for name in {HEAVY!r} if name in sys.modules]
assert not heavy, f"the web side loads {{heavy}}"
"""


def run(*command, **environment):
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_the_import_contracts_hold():
    result = run(str(Path(sys.executable).parent / "lint-imports"))
    assert result.returncode == 0, result.stdout


def test_every_page_call_and_task_loads_without_a_tensor_library():
    result = run(sys.executable, "-c", LOAD_THE_WEB_SIDE)
    assert result.returncode == 0, result.stderr


def test_the_trainer_is_a_program_that_needs_no_django():
    code = "import sys, trainer.rlhf.__main__; assert 'django' not in sys.modules and 'celery' not in sys.modules"
    result = run(sys.executable, "-c", code, DJANGO_SETTINGS_MODULE="")
    assert result.returncode == 0, result.stderr
