"""Typed client of the campaign recommender's HTTP API. It needs httpx and pydantic only.

with Client("http://recommender:8000", token="…") as client:
    answer = client.recommend("973", num_campaigns=3, deadline_s=0.3)
    show(answer.campaigns)
    client.expose(answer, [campaign.campaign_id for campaign in answer.campaigns])
"""

from recommender_client.answers import (
    Campaign,
    EventProblem,
    EventsTaken,
    Explanation,
    Item,
    Problem,
    Recommendations,
)
from recommender_client.clients import AsyncClient, Client
from recommender_client.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownRequest,
)

__all__ = [
    "AsyncClient",
    "Campaign",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "EventProblem",
    "EventsTaken",
    "Explanation",
    "InvalidRequest",
    "Item",
    "Problem",
    "Recommendations",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownRequest",
]
