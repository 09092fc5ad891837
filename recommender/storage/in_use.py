"""Lock of a home: whoever reads what `recommender clean` may remove holds it shared, a clean holds it alone.

It is a `flock`, so the kernel drops it when its process dies, and a holder never has to be told about the others.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from recommender.storage.home import Home
from recommender.storage.locks import lock, lock_file


@contextmanager
def in_use(home: Home) -> Iterator[None]:
    """Keep a clean from removing runs, checkpoints, versions and catalogues. Waits for one that is about to."""
    with lock_file(home.in_use) as file:
        lock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(home: Home) -> Iterator[bool]:
    """Keep others from beginning to use the home. Yields False if one uses it now, without waiting for its end."""
    with lock_file(home.in_use) as file:
        try:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
