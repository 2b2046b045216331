"""What a new installation starts with: roles, a first manager, a policy on the base model, two starter pools."""

import json
import secrets
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand
from django.db import transaction
from django.utils.text import slugify

from annotate.models import GuidelineVersion, Policy, PolicyCheckpoint, Prompt, PromptPool, User
from annotate.roles import Role
from config.environment import DEFAULT_BASE_MODEL

STARTER = Path(__file__).resolve().parents[2] / "starter"
STARTER_POOLS = [
    ("english", "English starter pool", "en", PromptPool.Status.ACTIVE),
    # Whether the base model writes Chinese is measured by the generate worker before anybody is asked to rank it.
    ("chinese", "中文入门题库", "zh-hans", PromptPool.Status.CHECKING),
]


class Command(BaseCommand):
    help = "Make what a new installation starts with. What is there already is left alone."

    def add_arguments(self, parser):
        parser.add_argument("--empty", action="store_true", help="Roles, manager and policy, but no starter pools.")

    @transaction.atomic
    def handle(self, *args, **options):
        for role in Role.values:
            Group.objects.get_or_create(name=role)
        self.make_first_manager()
        policy = self.make_policy()
        if not options["empty"] and not PromptPool.objects.exists():
            for name, title, language, status in STARTER_POOLS:
                make_pool(policy, name, title, language, status)

    def make_first_manager(self) -> None:
        if User.objects.filter(is_superuser=True).exists():
            return
        environment = settings.ENVIRONMENT
        password = environment.admin_password or secrets.token_urlsafe(12)
        user = User.objects.create_superuser(
            username=environment.admin_email, email=environment.admin_email, password=password
        )
        user.groups.set(Group.objects.filter(name=Role.MANAGER))
        shown = "(ADMIN_PASSWORD)" if environment.admin_password else password
        self.stdout.write(f"login: {user.email}  password: {shown}")

    def make_policy(self) -> Policy:
        existing = Policy.objects.order_by("pk").first()
        if existing is not None:
            return existing
        environment = settings.ENVIRONMENT
        base = DEFAULT_BASE_MODEL if environment.has_default_base_model else settings.BASE_MODEL
        policy = Policy.objects.create(name=slugify(base.rstrip("/").rsplit("/", 1)[-1]) or "policy", base_model=base)
        PolicyCheckpoint.objects.create(policy=policy, number=0, status=PolicyCheckpoint.Status.SERVING)
        return policy


def make_pool(policy: Policy, name: str, title: str, language: str, status: str) -> PromptPool:
    pool = PromptPool.objects.create(name=title, policy=policy, language=language, status=status)
    guidelines = (STARTER / f"{name}.md").read_text(encoding="utf-8")
    GuidelineVersion.objects.create(pool=pool, version=1, text=guidelines)
    for line in (STARTER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        Prompt.objects.create(
            pool=pool, messages=row["messages"], language=row["language"], tags=row["tags"], source_id=row["id"]
        )
    return pool
