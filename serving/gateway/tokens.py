"""Bearer tokens: several at a time, read again while the gateway runs, with a limit of rate for each.

The secret `token` holds one token per line. To rotate: add the new token, let the clients change, remove the old one.
Only a token's fingerprint is ever kept or logged.
"""

import hashlib
import time
from collections import OrderedDict

from recommender import logs
from recommender.errors import SettingsError
from recommender.secrets import secret
from serving.gateway.metrics import Metrics

log = logs.get(__name__)
FAILURES_PER_S, FAILURE_BURST = 1.0, 20.0
"""Wrong tokens of one peer that are answered 401 and logged. What is above gets 429 and no log line. By hand: a client
with an old token stays below while someone looks for the cause; a scanner does not fill the log."""
MOST_PEERS = 1_000
"""Peers remembered for that. The longest silent one is forgotten first."""
LEAST_BURST = 1.0
"""A token always has room for one request."""
SHOWN_DIGITS = 8
"""Digits of a token's fingerprint in the log: enough to tell tokens apart."""


class Bucket:
    """Allows `per_s` events a second in the long run, and `burst` at once."""

    def __init__(self, per_s: float, burst: float) -> None:
        self.per_s, self.burst = per_s, burst
        self._level, self._at_s = burst, time.monotonic()

    def take(self) -> float:
        """Take one, and return 0, or return the seconds until there is one."""
        now_s = time.monotonic()
        self._level = min(self.burst, self._level + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.per_s


class Tokens:
    """Knows which tokens are valid now, and how much each may still ask."""

    def __init__(self, rate_per_s: float | None, metrics: Metrics) -> None:
        self._rate_per_s, self._metrics = rate_per_s, metrics
        self._buckets: dict[bytes, Bucket | None] | None = None
        """Fingerprint -> its bucket, or None without a limit. None in place of the whole: no token is needed."""
        self._failures: OrderedDict[str, Bucket] = OrderedDict()
        self._problem: str | None = None
        self._replace(secret("token"))

    @property
    def needed(self) -> bool:
        """Whether requests need a token."""
        return self._buckets is not None

    def refresh(self) -> None:
        """Read the secret again. While it is missing or empty, the tokens that were read last stay valid."""
        try:
            text = secret("token")
            if text is None and self.needed:
                raise SettingsError("the secret `token` is gone")
        except SettingsError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("tokens cannot be read, the last ones stay", problem=self._problem)
            return
        self._problem = None
        self._replace(text)

    def _replace(self, text: str | None) -> None:
        if text is None:
            return
        known = self._buckets or {}
        found = [_fingerprint(token.encode()) for token in text.split()]
        if self._buckets is not None and set(found) == known.keys():
            return
        self._buckets = {one: known.get(one) or self._new_bucket() for one in found}
        if known:
            log.info("tokens read again", tokens=[one.hex()[:SHOWN_DIGITS] for one in found])

    def _new_bucket(self) -> Bucket | None:
        rate = self._rate_per_s
        return None if rate is None else Bucket(rate, max(LEAST_BURST, rate))

    def check(self, authorization: bytes, peer: str) -> tuple[int, float]:
        """The status for a request with this header, 200 if it may go on, and the seconds to wait of a 429."""
        if self._buckets is None:
            return 200, 0.0
        scheme, _, token = authorization.partition(b" ")
        # Looked up by a digest: how long that takes tells nothing about the tokens.
        fingerprint = _fingerprint(token.strip()) if scheme.lower() == b"bearer" else b""
        if fingerprint not in self._buckets:
            return self._failed(peer)
        bucket = self._buckets[fingerprint]
        wait_s = 0.0 if bucket is None else bucket.take()
        return (429, wait_s) if wait_s else (200, 0.0)

    def _failed(self, peer: str) -> tuple[int, float]:
        # A right token is always taken, because all clients behind one load balancer are one peer: shutting a peer out
        # would let one of them shut out the others. What keeps guessing hopeless is the length of a token.
        self._metrics.failed_tokens.inc()
        bucket = self._failures.setdefault(peer, Bucket(FAILURES_PER_S, FAILURE_BURST))
        self._failures.move_to_end(peer)
        if len(self._failures) > MOST_PEERS:
            self._failures.popitem(last=False)
        if wait_s := bucket.take():
            return 429, wait_s
        log.warning("wrong token", peer=peer)
        return 401, 0.0


def _fingerprint(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
