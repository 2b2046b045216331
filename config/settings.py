"""Django's settings. What a person may change comes from `config.environment`; everything else is decided here."""

import sys

from csp.constants import NONE, SELF
from kombu import Queue

from config.environment import PROJECT_ROOT, load_environment

ENVIRONMENT = load_environment()

SECRET_KEY = ENVIRONMENT.secret_key
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENVIRONMENT.csrf_trusted_origins)
DATA_DIR = ENVIRONMENT.data_dir
BASE_MODEL = ENVIRONMENT.base_model

INSTALLED_APPS = [
    "annotate",
    "trainer",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "template_partials",
    "csp",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "allauth",
    "allauth.account",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "annotate.same_person.same_person",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT_ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "annotate.context.page",
            ],
        },
    },
]

DATABASES = {
    "default": {
        **ENVIRONMENT.database,
        "ENGINE": "config.postgresql",
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
    },
}

# --- people ---------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "annotate.User"
AUTHENTICATION_BACKENDS = ["annotate.accounts.SignIn"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ["email"]},  # nobody here has a user name
    },
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_ADAPTER = "annotate.accounts.InvitedOnly"
ACCOUNT_FORMS = {
    "login": "annotate.account_forms.SignInForm",
    "reset_password": "annotate.account_forms.ForgottenPasswordForm",
    "reset_password_from_key": "annotate.account_forms.NewPasswordForm",
    "change_password": "annotate.account_forms.ChangePasswordForm",
}
ACCOUNT_EMAIL_VERIFICATION = "none"  # an invitation link is the proof; there is no open sign-up
ACCOUNT_LOGOUT_ON_GET = False
# A classroom signs in at once, from one address. What guards a password is the limit of failures of its account.
ACCOUNT_RATE_LIMITS = {"login": "300/m/ip", "login_failed": "100/m/ip,5/300s/key"}
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if ENVIRONMENT.trust_proxy else 0  # else all people behind the proxy were one address
ACCOUNT_SESSION_REMEMBER = True
SESSION_ENGINE = "config.sessions"
SESSION_COOKIE_AGE = 30 * 24 * 3600
# The cache of the rate limits is per process: good enough against guessing, and no second service.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# --- safety ---------------------------------------------------------------------------------------------------------
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENVIRONMENT.https_only
SECURE_SSL_REDIRECT = ENVIRONMENT.https_only
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if ENVIRONMENT.https_only else 0
if ENVIRONMENT.trust_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
DATA_UPLOAD_MAX_MEMORY_SIZE = 20 * 2**20

# --- language, time, files ------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [PROJECT_ROOT / "locale"]
FORMAT_MODULE_PATH = ["config.formats"]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
USE_I18N = True
USE_TZ = True
TIME_ZONE = ENVIRONMENT.time_zone
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [PROJECT_ROOT / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "config.static_files.HashedStaticFiles"},
}
if "pytest" in sys.modules or DEBUG:
    # Tests and debug pages read static files where they lie: nothing to collect first.
    STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"
    WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True

vars().update(ENVIRONMENT.email)
DEFAULT_FROM_EMAIL = ENVIRONMENT.email_from

# --- the API --------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "annotate.api.negotiation.ApiToken",
        "rest_framework.authentication.SessionAuthentication",
    ],
    # Denied unless a view says who may: a view without permissions of its own is for superusers alone.
    "DEFAULT_PERMISSION_CLASSES": ["annotate.api.permissions.Nobody"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["annotate.api.strict.StorableJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "annotate.api.negotiation.AlwaysTheSame",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "annotate.api.pages.Pages",
    "URL_FORMAT_OVERRIDE": None,  # `format` is the format of an export
    "PAGE_SIZE": 50,
    "EXCEPTION_HANDLER": "annotate.api.errors.as_json",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Whetstone",
    "DESCRIPTION": "Rank what a language model writes; train it from the rankings; export preference data.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {"RoleOfPerson": "annotate.roles.Role"},
    "SCHEMA_PATH_PREFIX": r"/(api/)?v1",
    "SERVE_PERMISSIONS": ["annotate.api.permissions.SignedIn"],
}

# --- the loop -------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = ENVIRONMENT.broker_url
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_QUEUES = [Queue("default"), Queue("generate"), Queue("train")]
CELERY_TASK_ROUTES = {
    "trainer.tasks.fill_buffers": {"queue": "generate"},
    "trainer.tasks.answer_chat": {"queue": "generate"},
    "trainer.tasks.advance_run": {"queue": "train"},
}
CELERY_BEAT_SCHEDULE = {
    "tick": {"task": "trainer.tasks.tick", "schedule": 5.0, "options": {"expires": 10}},
    "fill-buffers": {"task": "trainer.tasks.fill_buffers", "schedule": 5.0, "options": {"expires": 5}},
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "celerybeat-schedule")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": ENVIRONMENT.log_level},
    "loggers": {"whetstone": {"level": "INFO"}},
}
