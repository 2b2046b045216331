"""Static files with their content's hash in their name, so that a browser may keep each for ever."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFiles(CompressedManifestStaticFilesStorage):
    """Also the modules that a script of ours imports: `import "./outbox.js"` becomes the hashed name too.

    Ours alone (`js/*.js`): htmx's extensions import by names that only a bundler finds.
    """

    support_js_module_import_aggregation = True
    _js_module_import_aggregation_patterns = (
        "js/*.js",
        CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns[1],
    )
