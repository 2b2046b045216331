"""What the pages need before the first request; `python -m launch.preparation`, a program of its own: it loads Django.

Translations are compiled, migrations applied, static files collected, and `manage.py bootstrap` makes what a new
installation needs (groups, first manager, starter pools). Doing it again changes nothing.
"""

import os

from launch.translations import compile_translations


def prepare() -> None:
    import django
    from django.core.management import call_command

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    compile_translations()
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    call_command("bootstrap")


if __name__ == "__main__":
    prepare()
