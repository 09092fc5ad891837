"""Send requests to a running endpoint over HTTP, as an application does, and print the answers."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recommender.errors import LONGEST_ANSWER, ServingError
from recommender.report.terminal import wide
from recommender.settings import Settings


def ask(
    settings: Settings, user_id: str, *, url: str = "", num_campaigns: int = 3, num_items: int = 3
) -> dict[str, Any]:
    """The gateway's answer for one user: by default three campaigns of three items, which fit a terminal.

    A bearer token is read from RECOMMENDER_TOKEN.

    Raises:
        ServingError: nothing listens there, or the gateway refuses the request. Holds the gateway's message.
    """
    import httpx

    base = url or f"http://{_reachable(settings.serving.host)}:{settings.serving.port}"
    token = bearer_token()
    try:
        response = httpx.post(
            f"{base}/v1/recommendations",
            json={"user_id": user_id, "num_campaigns": num_campaigns, "num_items": num_items},
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=30,  # far beyond the gateway's own deadline: it answers or is not there
        )
    except httpx.HTTPError as error:
        raise ServingError(f"{base}: no answer ({error}). Start the endpoint with: recommender serve") from None
    if response.status_code != 200:
        raise ServingError(f"{base} answered {response.status_code}: {response.text[:LONGEST_ANSWER]}")
    answer: dict[str, Any] = response.json()
    return answer


def bearer_token() -> str | None:
    """The first token of the secret `token`, which may hold several. None: there is no such secret."""
    from recommender.secrets import secret

    found = secret("token")
    return found.split()[0] if found else None


def show(console: Console, title: str, answer: dict[str, Any]) -> None:
    """Print one shopper's ranked campaigns with items and reasons, and the model that ranked them."""
    table = Table(
        "#", "campaign", "score", "items", "reasons", title=escape(title), title_justify="left", show_lines=True
    )
    for rank, campaign in enumerate(answer["campaigns"], start=1):
        items = "\n".join(f"{item['name']} ({item['item_id']})" for item in campaign["items"])
        name = f"{campaign['name']} ({campaign['campaign_id']})"
        cells = (str(rank), name, f"{campaign['score']:.3f}", items, "\n".join(campaign["reasons"]))
        table.add_row(*map(escape, cells))  # a shop's own names may look like Rich's markup
    console.print(table)
    marks = [mark for mark in ("cold_start", "degraded") if answer[mark]]
    age = answer["feature_age_s"]
    console.print(
        f"model {answer['model_version']} · {answer['variant']} · features "
        f"{'none' if age is None else f'{age / 3600:.1f} h old'}{''.join(f' · {mark}' for mark in marks)}\n",
        highlight=False,
    )


def ask_and_show(settings: Settings, users: Sequence[str], *, url: str, num_campaigns: int, num_items: int) -> None:
    """Ask for each user in turn and print the answers."""
    console = wide()
    for user in users:
        answer = ask(settings, user, url=url, num_campaigns=num_campaigns, num_items=num_items)
        show(console, f"Shopper {user}", answer)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
