"""What a browser may keep for ever is named by its content, down to the modules that a script imports; the styles are
such as every browser reads."""

import re
import subprocess
from pathlib import Path

from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.test import override_settings
from playwright._impl._driver import compute_driver_executable
from rjsmin import jsmin

SOURCE = Path(__file__).parents[1] / "static/js/rank.js"
IMPORT = r'(?:from ?|import\()"\./([^"]+)"'


def test_it_names_every_module_by_its_content(tmp_path):
    hashed = {"staticfiles": {"BACKEND": "config.static_files.HashedStaticFiles"}}
    with override_settings(STATIC_ROOT=tmp_path, STORAGES=hashed):
        call_command("collectstatic", "--noinput", verbosity=0)
        script = tmp_path / staticfiles_storage.stored_name("js/rank.js")
    written, imported = (re.findall(IMPORT, text) for text in (SOURCE.read_text(), script.read_text()))
    assert len(imported) == len(written) > 5
    for name in imported:
        assert re.fullmatch(r"[a-z]+\.[0-9a-f]{12}\.js", name)
        assert (script.parent / name).exists()
    assert "/*" not in script.read_text()
    assert script.stat().st_size < 0.8 * SOURCE.stat().st_size


def test_every_script_is_one_without_its_comments_too(tmp_path):
    node, _ = compute_driver_executable()
    for script in SOURCE.parent.glob("*.js"):
        served = tmp_path / f"{script.stem}.mjs"
        served.write_text(jsmin(script.read_text()))
        checked = subprocess.run([node, "--check", served], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_it_decorates_text_as_webkit_understands():
    """WebKit drops a `text-decoration` that says more than one word, and the words are not underlined at all."""
    for sheet in (SOURCE.parents[1] / "css").glob("*.css"):
        assert re.findall(r"text-decoration:\s*[^;\s]+\s[^;]*;", sheet.read_text()) == [], sheet.name
