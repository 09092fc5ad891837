"""The deployer's half: the repository extension of the Open Inference Protocol, where the server has it.

With `oip_repository`, a version is written there as MLServer wants it (a folder with the bundle and
`model-settings.json`) and then loaded by name. Without it somebody else brings the versions to the server, for example
an InferenceService of KServe for each, and here it is only checked that they answer.
"""

import base64
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.errors import LONGEST_ANSWER, ServingError
from recommender.settings import Settings
from recommender.storage.home import ServingState
from recommender.storage.manifest import write_text
from serving import wire
from serving.archive import BUNDLE, check_version, copy_bundle
from serving.blocking_http import call, described
from serving.deployed import Deployed
from serving.engines.oip.addresses import Addresses
from serving.request import PROBE, RecommendationRequest, ScoringRequest
from serving.wire_key import wire_key
from serving.worker.tensors import BASE64

CALL_S = 90.0
"""Seconds for one call. A server loads a version within the call, which takes 2 to 5 s on two cores."""
LOOK_S = 5.0
"""Seconds for a call that computes nothing."""
READY_S = 30.0
"""Seconds for a version to answer after the server said that it is loaded, or that it has no such extension."""
POLL_S = 0.1
"""Seconds between looks meanwhile. Chosen by hand."""
IMPLEMENTATION = "serving.engines.oip.mlserver.CampaignRanker"
LATE_STATUS = 503
"""What a worker answers to a request whose deadline has passed: it has taken the key, and computes nothing."""


@dataclass(frozen=True)
class OipLoading:
    """The versions of the server of these settings."""

    settings: Settings

    @property
    def _addresses(self) -> Addresses:
        return Addresses.of(self.settings)

    def is_up(self) -> bool:
        """See `Loading`. Where each version has a server of its own, there is none that could be down for all."""
        if "{version}" in self._addresses.url:
            return True
        try:
            return _call("GET", f"{self._addresses.url}/v2/health/live", seconds=LOOK_S)[0] == 200
        except ServingError:
            return False

    def versions(self) -> dict[str, list[str]]:
        """See `Loading`: what is deployed and what the server lists, as far as it answers."""
        deployed = Deployed.load(ServingState.of(self.settings).root).loaded
        names = dict.fromkeys([*deployed, *self._listed()])
        return {version: ["READY"] for version in names if self._is_ready(version)}

    def register(self, version: str, bundle: Path) -> None:
        """See `Loading`. The server loads it within the call."""
        check_version(version)
        if self.settings.serving.oip_repository is not None:
            self._place(version, bundle)
        self._ask_to_load(version)

    def wait_ready(self, version: str) -> None:
        """See `Loading`."""
        deadline = time.monotonic() + READY_S
        while not self._is_ready(version):
            if time.monotonic() > deadline:
                raise ServingError(f"{self._url(version, 'ready')}: not ready within {READY_S:.0f} s; {self._advice()}")
            time.sleep(POLL_S)

    def check(self, version: str) -> None:
        """See `Loading`. Also checks that the server knows this gateway's key."""
        status, answer = self._infer(version, json.dumps(PROBE), None)
        if status != 200:
            raise ServingError(f"{self._url(version, 'infer')}: a real prediction answers {status}: {answer}")
        status, answer = self._infer(version, _late_request(self.settings), {"content_type": BASE64})
        if status != LATE_STATUS:
            raise ServingError(
                f"{self._url(version, 'infer')}: a request of the gateway answers {status}: {answer}; give the server "
                "the same secret `wire_key` as gateway and deployer"
            )

    def set_default(self, version: str) -> None:
        """See `Loading`: the gateway itself names the version of every request."""
        if not self._is_ready(version):
            raise ServingError(f"{self._url(version, 'ready')}: not ready; the champion stays as it is")

    def unregister(self, version: str) -> None:
        """See `Loading`. A version that somebody else brought to the server stays."""
        if self.settings.serving.oip_repository is None:
            return
        status, body = _call("POST", self._repository(f"models/{self._addresses.name(version)}/unload"), {})
        if status not in (200, 404) and self._is_ready(version):
            raise ServingError(f"{version} cannot be unloaded: {described(status, body)}")
        shutil.rmtree(self._folder(version), ignore_errors=True)

    def _place(self, version: str, bundle: Path) -> None:
        folder = self._folder(version)
        folder.mkdir(parents=True, exist_ok=True)
        copied = copy_bundle(bundle, folder / version)
        uri = folder / BUNDLE
        shutil.rmtree(uri, ignore_errors=True)
        copied.rename(uri)
        parameters = {"uri": str(uri.resolve()), "version": version}
        document = {
            "name": self._addresses.name(version),
            "implementation": IMPLEMENTATION,
            "parameters": parameters,
        }
        write_text(folder / "model-settings.json", json.dumps(document, indent=1))

    def _ask_to_load(self, version: str) -> None:
        if not self._addresses.is_named:
            return  # the extension loads models, not versions of one
        status, body = _call("POST", self._repository(f"models/{self._addresses.name(version)}/load"), {})
        if status == 200 or (status in (404, 405) and self.settings.serving.oip_repository is None):
            return
        if self.settings.serving.oip_repository is not None:
            shutil.rmtree(self._folder(version), ignore_errors=True)
        raise ServingError(f"{version} cannot be loaded: {described(status, body)}")

    def _infer(self, version: str, element: str, parameters: dict[str, str] | None) -> tuple[int, str]:
        tensor: dict[str, Any] = {"name": "requests", "datatype": "BYTES", "shape": [1], "data": [element]}
        if parameters is not None:
            tensor["parameters"] = parameters
        status, body = _call("POST", self._url(version, "infer"), {"inputs": [tensor]})
        if status != 200:
            return status, described(status, body)
        try:
            outputs = {one["name"]: one["data"] for one in json.loads(body)["outputs"]}
            return int(outputs["statuses"][0]), str(outputs["answers"][0])[:LONGEST_ANSWER]
        except (ValueError, KeyError, TypeError, IndexError):
            return 0, f"no tensors `answers` and `statuses`: {body[:LONGEST_ANSWER].decode(errors='replace')}"

    def _is_ready(self, version: str) -> bool:
        try:
            return _call("GET", self._url(version, "ready"), seconds=LOOK_S)[0] == 200
        except ServingError:
            return False

    def _listed(self) -> list[str]:
        """Versions that the server's index names. None, where the server has no index."""
        if "{version}" in self._addresses.url or not self._addresses.is_named:
            return []
        status, body = _call("POST", self._repository("index"), {}, seconds=LOOK_S)
        if status != 200:
            return []
        found = [self._addresses.version(str(one.get("name", ""))) for one in json.loads(body)]
        return [version for version in found if version is not None]

    def _advice(self) -> str:
        if self.settings.serving.oip_repository is None:
            return "`oip_repository` is not set, so the version must be brought to the server first"
        return f"does the server load its models from {self.settings.serving.oip_repository}?"

    def _folder(self, version: str) -> Path:
        assert self.settings.serving.oip_repository is not None
        return self.settings.serving.oip_repository / self._addresses.name(version)

    def _url(self, version: str, verb: str) -> str:
        return self._addresses.base(version) + self._addresses.path(version, verb)

    def _repository(self, path: str) -> str:
        return f"{self._addresses.url}/v2/repository/{path}"


def _late_request(settings: Settings) -> str:
    """A request of the gateway whose deadline passed in 1970, in base64."""
    asked = ScoringRequest(request=RecommendationRequest(user_id="probe"), as_of_us=0, answer_by_us=0)
    return base64.b64encode(wire.encode(asked, b"", wire_key(settings))).decode()


def _call(method: str, url: str, document: Any = None, *, seconds: float = CALL_S) -> tuple[int, bytes]:
    return call(method, url, None if document is None else json.dumps(document).encode(), seconds=seconds)
