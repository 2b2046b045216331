"""Sessions in the database, as Django keeps them; only read in SQL as it stands, since every request reads one."""

from django.contrib.sessions.backends import db
from django.db import connection
from django.utils import timezone

READ = "SELECT session_data FROM django_session WHERE session_key = %s AND expire_date > %s"


class SessionStore(db.SessionStore):
    def load(self) -> dict:
        with connection.cursor() as cursor:
            cursor.execute(READ, [self.session_key, timezone.now()])
            found = cursor.fetchone()
        if found is None:
            self._session_key = None  # it ended, or never was: no answer may bring it back under this key
            return {}
        return self.decode(found[0])
