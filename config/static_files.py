"""Static files with their content's hash in their name, so that a browser may keep each for ever."""

from fnmatch import fnmatch
from pathlib import Path

from rjsmin import jsmin
from whitenoise.storage import CompressedManifestStaticFilesStorage

OWN_SCRIPTS = "js/*.js"


class HashedStaticFiles(CompressedManifestStaticFilesStorage):
    """Also the modules that a script of ours imports: `import "./outbox.js"` becomes the hashed name too.

    Ours alone: htmx's extensions import by names that only a bundler finds.
    """

    support_js_module_import_aggregation = True
    _js_module_import_aggregation_patterns = (
        OWN_SCRIPTS,
        CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns[1],
    )

    def post_process(self, paths, dry_run=False, **options):
        """Our scripts are served without comments and indents, which are a third of them."""
        scripts = [] if dry_run else [name for name in paths if fnmatch(name, OWN_SCRIPTS)]
        for script in map(Path, map(self.path, scripts)):
            short = jsmin(script.read_text("utf-8"))
            script.unlink()  # it may be a link to where it lies
            script.write_text(short, "utf-8")
        collected = {name: (self, name) for name in scripts}  # not read again from where they lie
        yield from super().post_process(paths | collected, dry_run, **options)
