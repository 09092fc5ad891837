"""`serve` and `stop`: start the endpoint and keep it running, and stop it."""

import signal
from types import FrameType

from recommender.errors import ServingError
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.storage.home import ServingState

KEEPER = "serve"
"""Name of the pid file of `recommender serve` itself."""
KEEPER_S = 20.0
"""Seconds for it to notice that its processes were stopped. It looks several times a second; loading a version may keep
it busy for seconds. By hand."""


def serve_until_stopped(settings: Settings) -> None:
    """Start the endpoint, follow the registry, and stop everything on Ctrl-C, SIGTERM or `recommender stop`.

    Raises:
        ServingError: a port is busy, there is no champion, or nothing can be loaded; nothing is left running.
    """
    from serving.deployer.endpoint import serve
    from serving.deployer.processes import note

    def ended(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)
    with serve(settings) as deployment:
        keeper = note(KEEPER, ServingState.of(deployment.settings))
        print(f"serving on {deployment.url} (logs: {ServingState.of(deployment.settings).logs})")
        body, token = """{"user_id": "1"}""", """ -H "Authorization: Bearer $TOKEN\"""" if secret("token") else ""
        headers = f"-H 'content-type: application/json'{token}"
        print(f"  curl -X POST {deployment.url}/v1/recommendations {headers} -d '{body}'")
        print(f"  API: {deployment.url}/openapi.json   ·   stop with Ctrl-C or `recommender stop`", flush=True)
        try:
            deployment.follow()
        except KeyboardInterrupt:
            print("stopping …", flush=True)
        finally:
            keeper.forget()


def stop_running(settings: Settings) -> None:
    """Stop what `serve` started, from any shell, and wait until `serve` itself has ended.

    A `serve` that still ends would take the processes of the next one for its own, and stop them.
    """
    from serving.config import absolute
    from serving.deployer.endpoint import stop
    from serving.deployer.processes import find

    keeper = find(ServingState.of(absolute(settings)).pid_file(KEEPER))
    stopped = stop(settings)
    if keeper is not None and not keeper.ends_within(KEEPER_S):
        raise ServingError(f"`recommender serve` (process {keeper.pid}) has not ended within {KEEPER_S:.0f} s; end it")
    print("stopped" if stopped else "nothing was running")
