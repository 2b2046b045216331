"""What Django imports for ENGINE "config.postgresql"."""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    def is_usable(self) -> bool:
        """Whether the server is still there: between two requests it says nothing, unless that it is going.

        Django asks at each request (CONN_HEALTH_CHECKS), with a statement. A server that ended or closed the connection
        has left its farewell in the socket already, so a look at that tells as much, without waiting for an answer.
        """
        if self.connection is None or self.connection.closed:
            return False
        socket = select.poll()
        socket.register(self.connection.fileno(), select.POLLIN)
        return not socket.poll(0)
