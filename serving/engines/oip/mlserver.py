"""Our model for MLServer: `implementation` in the `model-settings.json` that the deployer writes.

Only MLServer imports this, in its own environment, which has this software too and the settings in its environment
variables (`serving.config`).
"""

import asyncio
from pathlib import Path

import orjson
from mlserver import MLModel
from mlserver.errors import InferenceError, MLServerError
from mlserver.types import InferenceRequest, InferenceResponse

from recommender.errors import RecommenderError
from serving import config
from serving.worker.answering import Answering
from serving.worker.tensors import infer


class CampaignRanker(MLModel):  # type: ignore[misc]  # MLServer is not installed where types are checked
    """One version."""

    _answering: Answering | None = None
    """None: not loaded. MLServer also unloads a model whose loading failed."""

    async def load(self) -> bool:
        """Verify and load the bundle. An error keeps the model from becoming ready."""
        parameters = self.settings.parameters
        if parameters is None or parameters.uri is None or parameters.version is None:
            raise InferenceError("model-settings.json must name `uri` and `version`")
        version, folder = str(parameters.version), Path(parameters.uri)
        try:
            self._answering = await asyncio.to_thread(Answering, config.of_environment(), version, folder)
        except RecommenderError as error:
            # MLServer tells its caller the message of its own errors only.
            raise MLServerError(f"{type(error).__name__}: {error}") from error
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch. A body that is not a batch of ours is refused with 400."""
        assert self._answering is not None
        content = orjson.dumps(payload.model_dump(exclude_none=True))
        status, document = infer(self._answering, content)
        if status != 200:
            raise InferenceError(orjson.dumps(document).decode())
        return InferenceResponse(**{**document, "model_name": self.name})

    async def unload(self) -> bool:
        """Release the thread and the connections."""
        if self._answering is not None:
            self._answering.close()
        return True
