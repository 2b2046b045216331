import gc
import os

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

# Before the workers fork: every view is imported once for all of them, and what is here for good is no longer searched
# for garbage in the middle of requests.
_ = get_resolver().url_patterns
gc.collect()
gc.freeze()
