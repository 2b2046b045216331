"""Print a link with which one person makes an account."""

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.urls import reverse

from annotate.addresses import site_url
from annotate.errors import Refused
from annotate.roles import Role
from annotate.services.invitations import invite_person


class Command(BaseCommand):
    help = "Invite somebody: prints a link that makes one account with one role, once."

    def add_arguments(self, parser):
        parser.add_argument("email", metavar="EMAIL")
        parser.add_argument("--role", choices=Role.values, default=Role.ANNOTATOR.value)

    def handle(self, *args, email, role, **options):
        try:
            validate_email(email)
            invitation = invite_person(email=email, role=role)
        except ValidationError:
            raise CommandError(f"“{email}” is not an e-mail address.") from None
        except Refused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(site_url() + reverse("invitation", args=[invitation.token]))
