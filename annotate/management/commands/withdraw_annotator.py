"""Take somebody's answers out of every later snapshot, export and run."""

from django.core.management.base import BaseCommand, CommandError

from annotate.errors import Refused
from annotate.models import User
from annotate.services.people import withdraw_person


class Command(BaseCommand):
    help = "Withdraw a person's answers, close the account, and list the checkpoints that learned from them."

    def add_arguments(self, parser):
        parser.add_argument("person", metavar="EMAIL", help="or the pseudonym that exports show")

    def handle(self, *args, person, **options):
        user = User.objects.filter(email__iexact=person).first() or User.objects.filter(pseudonym=person).first()
        if user is None:
            raise CommandError(f"There is no account “{person}”.")
        try:
            touched = withdraw_person(user=user, by=None)
        except Refused as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"{user.pseudonym} is withdrawn. Checkpoints that learned from these answers: {len(touched)}")
        for checkpoint in touched:
            self.stdout.write(f"  {checkpoint.name} ({checkpoint.get_status_display()})")
