"""The transport of a connection's last answer, which may be closed only once the client had time to read it."""

import asyncio


class KeptOpen:
    """Writes to a transport and does not close it: whoever made this does, later.

    A socket that is closed while its client still sends is reset, and a reset can take the answer with it.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Leave it open."""
