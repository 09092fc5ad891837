"""What can go wrong, one class for each thing that a caller can do about it."""

from recommender_client.answers import Problem


class ClientError(Exception):
    """Base of all errors of this package."""


class InvalidRequest(ClientError):
    """The request breaks the contract (422, 413, 415). `fields` names what is wrong. Do not try again."""

    def __init__(self, message: str, fields: list[Problem]) -> None:
        super().__init__(message)
        self.fields = fields


class Unauthorized(ClientError):
    """The token is missing or wrong (401). Do not try again with the same token."""


class UnknownRequest(ClientError):
    """No decision has this request id (404)."""


class Unavailable(ClientError):
    """The service could not be reached, or refused for now (429, 5xx), also after trying again.

    `retry_after_s` is what the service asked for, if it did.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class DeadlineExceeded(Unavailable):
    """No answer came within the deadline."""


class UnexpectedAnswer(ClientError):
    """The answer is no answer of this API: perhaps a proxy's page, or another service's."""
