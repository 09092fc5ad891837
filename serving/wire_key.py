"""The key by which a worker knows a body of its own gateway from one that somebody else sent to the model server.

TorchServe does not tell a handler who its peer is, and in a pod it listens beyond loopback. So gateway and workers
share 16 bytes: of the replica's own state folder, or for a model server elsewhere of the secret `wire_key`.
"""

import hashlib
import os
import secrets
from pathlib import Path

from recommender.secrets import secret
from recommender.settings import Settings
from recommender.storage.home import ServingState
from serving.wire import KEY_BYTES


def wire_key(settings: Settings) -> bytes:
    """The key of this replica. The first process that needs it makes it.

    Raises:
        SettingsError: The secret is empty or cannot be read.
    """
    shared = secret("wire_key")
    if shared is not None:
        return hashlib.sha256(shared.encode()).digest()[:KEY_BYTES]
    file = ServingState.of(settings).wire_key
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return _made(file)


def _made(file: Path) -> bytes:
    file.parent.mkdir(parents=True, exist_ok=True)
    own = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        written.write(secrets.token_bytes(KEY_BYTES))
    try:
        os.link(own, file)  # whole at once, and never over the key of another process
    except FileExistsError:
        pass
    finally:
        own.unlink()
    return file.read_bytes()
