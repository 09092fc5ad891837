"""`python -m serving.load`: load one endpoint from a process of its own, and print the figures as JSON.

The requests are read from stdin, one JSON body a line, and sent in turn.
"""

import argparse
import json
import sys
from typing import Any
from urllib.parse import urlsplit

import uvloop

from serving.load.generator import Target, closed_loop, get, open_loop, post
from serving.load.results import Result


def main() -> None:
    """Run the generator as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m serving.load", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="such as http://127.0.0.1:8000/v1/recommendations")
    parser.add_argument("--rate", type=float, help="requests per second, open loop")
    parser.add_argument("--concurrency", type=int, help="requests under way, closed loop")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds before the clock starts, closed loop")
    parser.add_argument("--get", action="store_true", help="send GET without a body")
    parser.add_argument("--token")
    parser.add_argument("--raw", action="store_true", help="also print every latency and its end, by outcome")
    given = parser.parse_args()
    if (given.rate is None) == (given.concurrency is None):
        parser.error("give either --rate or --concurrency")
    result = uvloop.run(_run(given))
    document = result.document()
    if given.raw:
        document["latencies_s"], document["ended_s"] = result.latencies_s, result.ended_s
    print(json.dumps(document))


async def _run(given: argparse.Namespace) -> Result:
    parts = urlsplit(given.url)
    host, port, authority = parts.hostname or "127.0.0.1", parts.port or 80, parts.netloc
    if given.get:
        requests = [get(parts.path or "/", host=authority)]
    else:
        bodies = [line.strip() for line in sys.stdin.buffer if line.strip()]
        requests = [post(parts.path, body, host=authority, token=given.token) for body in bodies]
    target = Target(host=host, port=port, requests=requests)
    how: dict[str, Any] = {"seconds": given.seconds}
    if given.rate is not None:
        return await open_loop(target, rate=given.rate, **how)
    return await closed_loop(target, concurrency=given.concurrency, warm_up_s=given.warm_up, **how)


if __name__ == "__main__":
    main()
