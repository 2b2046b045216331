"""Where this site is reached."""

from django.conf import settings


def site_url() -> str:
    """The address for people: the first of CSRF_TRUSTED_ORIGINS, behind a proxy; HOST and PORT where there is none."""
    return next(iter(settings.CSRF_TRUSTED_ORIGINS), "") or own_url()


def own_url() -> str:
    """The address of the web server on this machine."""
    environment = settings.ENVIRONMENT
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(environment.host, environment.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{environment.port}"
