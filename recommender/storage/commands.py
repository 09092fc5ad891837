"""Commands that a message tells a person to run, for the home that the message is about."""

import shlex

from recommender.settings import Settings
from recommender.storage.home import Home


def command(settings: Settings, arguments: str) -> str:
    """`recommender` with these arguments, and with `--data` where the home is one of own data.

    Without it the command would act on another home.
    """
    mapping = settings.source.mapping
    own = mapping is not None and Home.of(settings).is_own
    return f"recommender {arguments}" + (f" --data {shlex.quote(str(mapping))}" if own else "")
