"""TorchServe handler: the bodies of `serving.worker.bodies`, each item of TorchServe's batch with its own status.

TorchServe wants a module with one class that has `initialize` and `handle`; nothing here imports TorchServe.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import orjson

from recommender import logs
from recommender.errors import RecommenderError
from serving import config
from serving.archive import BUNDLE, CANNOT_LOAD
from serving.request import InvalidRequest
from serving.worker.answering import Answering, invalid, refused
from serving.worker.bodies import respond_all

log = logs.get(__name__)
METRICS_MARK = "[METRICS]"
"""TorchServe parses the lines of its workers that begin with this, so they are not written as JSON."""


class CampaignRankerHandler:
    """Serves one version: the bundle of its archive."""

    def initialize(self, context: Any) -> None:
        """Verify and load the bundle, where an error keeps the worker from becoming READY.

        Raises:
            CorruptFileError: A file of the bundle is missing, truncated or altered; names it.
            BundleError: This version cannot load the bundle. States the reason.
            ServingError: It cannot answer a request of the warm-up; holds its answer.
        """
        # TorchServe writes what a worker prints to its log file.
        logs.configure(process="worker", stream=sys.stdout, verbatim=METRICS_MARK)
        logging.getLogger("ts").setLevel(logging.INFO)  # the level at which it writes its metrics
        folder = Path(context.system_properties["model_dir"]) / BUNDLE
        version = str(context.manifest["model"]["modelVersion"])
        try:
            self.answering = Answering(config.of_environment(), version, folder)
        except RecommenderError as error:
            log.error(CANNOT_LOAD, model_version=version, problem=f"{type(error).__name__}: {error}")
            raise

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch: one JSON document and one HTTP status per item."""
        contents = [_content(item.get("body", item.get("data", b""))) for item in data]
        answers = iter(respond_all(self.answering, [one for one in contents if isinstance(one, bytes)]))
        documents = []
        for place, content in enumerate(contents):
            status, document = next(answers) if isinstance(content, bytes) else content
            context.set_response_status(code=status, idx=place)
            context.set_response_content_type(place, "application/json")
            documents.append(document)
        return documents


def _content(body: object) -> bytes | tuple[int, bytes]:
    """The bytes of a body, or the refusal of one that has none."""
    try:
        return bytes(body) if isinstance(body, bytes | bytearray) else _encoded(body)
    except InvalidRequest as error:
        status, document = refused(error)
        return status, orjson.dumps(document)


def _encoded(body: object) -> bytes:
    """The bytes of a body that was decoded before us (TorchServe does that unless its configuration forbids it)."""
    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise invalid("body", str(error)) from None
