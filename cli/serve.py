"""`serve` and `stop`: start the endpoint and keep it running, and stop it."""

import signal
from types import FrameType

from recommender.secrets import secret
from recommender.settings import Settings
from recommender.storage.home import ServingState


def serve_until_stopped(settings: Settings) -> None:
    """Start the endpoint, follow the registry, and stop everything on Ctrl-C, SIGTERM or `recommender stop`.

    Raises:
        ServingError: a port is busy, there is no champion, or nothing can be loaded; nothing is left running.
    """
    from serving.deployer.endpoint import serve

    def ended(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)
    with serve(settings) as deployment:
        print(f"serving on {deployment.url} (logs: {ServingState.of(deployment.settings).logs})")
        body, token = """{"user_id": "1"}""", """ -H "Authorization: Bearer $TOKEN\"""" if secret("token") else ""
        headers = f"-H 'content-type: application/json'{token}"
        print(f"  curl -X POST {deployment.url}/v1/recommendations {headers} -d '{body}'")
        print(f"  API: {deployment.url}/openapi.json   ·   stop with Ctrl-C or `recommender stop`", flush=True)
        try:
            deployment.follow()
        except KeyboardInterrupt:
            print("stopping …", flush=True)


def stop_running(settings: Settings) -> None:
    """Stop what `serve` started, from any shell."""
    from serving.deployer.endpoint import stop

    print("stopped" if stop(settings) else "nothing was running")
