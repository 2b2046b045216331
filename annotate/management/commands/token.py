"""Print an API token, so that a script can do what a person may do."""

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction
from rest_framework.authtoken.models import Token

from annotate.models import User
from annotate.roles import Role, roles_of
from annotate.services.audit import record
from annotate.services.invitations import make_account


class Command(BaseCommand):
    help = "Print the API token of an account, which is made if there is none. Send it as “Authorization: Token …”."

    def add_arguments(self, parser):
        parser.add_argument("name", metavar="NAME", help="an e-mail address, or one word")
        parser.add_argument("--role", choices=Role.values, required=True)

    @transaction.atomic
    def handle(self, *args, name, role, **options):
        email = name if "@" in name else f"{name}@whetstone.invalid"
        try:
            validate_email(email)
        except ValidationError:
            raise CommandError(f"“{name}” is neither an e-mail address nor one word.") from None
        user = User.objects.filter(email__iexact=email).first() or make_account(email=email, role=role)
        if not user.is_active:
            raise CommandError(f"The account {user} is closed.")
        if role not in roles_of(user):
            raise CommandError(f"{user} is no {role}. Change the role on the page of people, or choose another name.")
        token, is_new = Token.objects.get_or_create(user=user)
        if is_new:
            record(None, "make.token", user, role=role)
        self.stdout.write(token.key)
