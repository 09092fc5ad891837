"""The Open Inference Protocol v2 as a worker speaks it: one tensor `requests` in, `answers` and `statuses` out."""

import base64
import binascii
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.archive import MODEL_NAME
from serving.request import InvalidRequest, parse
from serving.worker.answering import Answered, Answering, invalid, refused

MOST_USERS = 256
"""Users in one batch: about half a second of a worker, which other requests wait for. By hand."""
BASE64 = "base64"
"""Value of a tensor's parameter `content_type` that says that its elements are base64, as in MLServer."""


class Tensor(BaseModel):
    """One input of the Open Inference Protocol. Parameters beyond the known ones are the server's own."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    name: Literal["requests"]
    datatype: Literal["BYTES"]
    shape: Annotated[list[int], Field(min_length=1, max_length=2)]
    data: Annotated[list[str], Field(min_length=1, max_length=MOST_USERS)]
    parameters: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _of_its_shape(self) -> "Tensor":
        if self.shape not in ([len(self.data)], [len(self.data), 1]):
            raise ValueError(f"shape {self.shape} does not fit {len(self.data)} elements in `data`")
        return self


class Inference(BaseModel):
    """Body of the Open Inference Protocol v2."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    id: Annotated[str, Field(max_length=200)] | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=1)]


def infer(answering: Answering, content: bytes) -> Answered:
    """The answer to a body of the Open Inference Protocol."""
    try:
        asked = parse(Inference, content)
        (tensor,) = asked.inputs
        bodies = [_element(tensor, place) for place in range(len(tensor.data))]
    except InvalidRequest as error:
        return refused(error)
    answers = answering.batch(bodies)
    outputs = [
        _tensor("answers", "BYTES", [orjson.dumps(document).decode() for _, document in answers]),
        _tensor("statuses", "INT32", [status for status, _ in answers]),
    ]
    known = {"model_name": MODEL_NAME, "model_version": answering.version, "outputs": outputs}
    return 200, known if asked.id is None else {"id": asked.id, **known}


def _element(tensor: Tensor, place: int) -> bytes:
    text = tensor.data[place]
    if (tensor.parameters or {}).get("content_type") != BASE64:
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"inputs.0.data.{place}", "must be base64, as the tensor's content_type says") from None


def _tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}
