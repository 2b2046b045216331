"""Rank comparisons as people would, by a hidden preference with noise, through the site's own pages and API."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils.crypto import salted_hmac

from annotate.addresses import own_url
from annotate.models import PoolMember, PromptPool, User
from annotate.oracles import ORACLES, load_oracle
from annotate.roles import Role
from annotate.services.invitations import make_account
from annotate.services.people import give_role
from annotate.synthetic import GaveUp, SyntheticAnnotator

MOST_ANNOTATORS = 200
SAY_EVERY = 50  # rankings: a processor may take minutes to write what they are of


class Command(BaseCommand):
    help = "Rank comparisons with synthetic annotators, over HTTP."

    def add_arguments(self, parser):
        parser.add_argument("--annotators", type=int, default=4, help="how many work at once")
        parser.add_argument("--comparisons", type=int, default=20, help="how many answers, all together")
        parser.add_argument("--oracle", default="positive", help=f"{', '.join(ORACLES)} or module:function")
        parser.add_argument("--temperature", type=float, default=0.1, help="of the Bradley-Terry noise; 0: none")
        parser.add_argument("--pool", type=int, help="number of the pool; default: any")
        parser.add_argument("--url", default="", help="default: HOST and PORT")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--patience", type=float, default=600, help="seconds to wait for something to rank")

    def handle(self, *args, **options):
        try:
            oracle = load_oracle(options["oracle"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        if not 1 <= options["annotators"] <= MOST_ANNOTATORS:
            raise CommandError(f"--annotators must be from 1 to {MOST_ANNOTATORS}.")
        if options["temperature"] < 0:
            raise CommandError("--temperature must not be negative.")
        annotators = [
            SyntheticAnnotator(
                url=options["url"].rstrip("/") or own_url(),
                email=email,
                password=password,
                oracle=oracle,
                temperature=options["temperature"],
                seed=options["seed"],
                pool_id=options["pool"],
                patience_seconds=options["patience"],
            )
            for email, password in accounts(options["annotators"], options["pool"])
        ]
        started = time.monotonic()
        say = self.stdout.write if options["verbosity"] else None
        answered = work_together(annotators, options["comparisons"], say)
        if options["verbosity"]:
            seconds = time.monotonic() - started
            each = ", ".join(str(count) for count in answered)
            self.stdout.write(
                f"{sum(answered)} rankings by {len(answered)} synthetic annotators ({each}), oracle "
                f"{options['oracle']}, in {seconds:.1f} s: {sum(answered) / max(seconds, 1e-9):.1f} a second."
            )


def accounts(count: int, pool_id: int | None) -> list[tuple[str, str]]:
    """E-mail addresses and passwords of accounts that may annotate, made where there are none.

    The password follows from the secret key, so that it is kept nowhere and is the same the next time.
    """
    pool = PromptPool.objects.filter(pk=pool_id).first() if pool_id else None
    if pool_id and pool is None:
        raise CommandError(f"There is no pool {pool_id}.")
    return [account(f"synthetic-{number}@whetstone.invalid", pool) for number in range(1, count + 1)]


@transaction.atomic
def account(email: str, pool: PromptPool | None) -> tuple[str, str]:
    password = salted_hmac("annotate.simulate", email).hexdigest()
    user = User.objects.filter(email=email).first()
    if user is None:
        user = make_account(email=email, role=Role.ANNOTATOR, password=password)
    elif not user.check_password(password) or not user.is_active:
        user.set_password(password)
        user.is_active = True
        user.save(update_fields=["password", "is_active"])
        give_role(user, Role.ANNOTATOR)
    if pool is not None and pool.members_only:
        PoolMember.objects.get_or_create(pool=pool, user=user)
    return email, password


def work_together(
    annotators: list[SyntheticAnnotator], comparisons: int, say: Callable[[str], object] | None = None
) -> list[int]:
    """Share `comparisons` answers out, first come, first served. Returns how many each gave. One gives up, all stop.

    `say` hears of each SAY_EVERY.
    """
    begun, lock = 0, threading.Lock()

    def wants_another() -> bool:
        nonlocal begun
        with lock:
            begun += 1
            if say is not None and begun <= comparisons and begun % SAY_EVERY == 0:
                say(f"ranking {begun} of {comparisons}")
            return begun <= comparisons

    with ThreadPoolExecutor(len(annotators)) as threads:
        work = [threads.submit(annotator.work, wants_another) for annotator in annotators]
        try:
            done, _others = wait(work, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
            return [each.result() for each in work]
        except GaveUp as error:
            raise CommandError(str(error)) from error
        finally:
            for annotator in annotators:
                annotator.is_stopped.set()
