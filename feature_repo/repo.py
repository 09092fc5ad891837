"""The façade that `feast apply` reads: the same definitions as the materialise step applies, as module attributes.

    FEATURE_STORE_HOME=$PWD/var/feature_store FEATURE_STORE_PROJECT=campaigns \
        feast --chdir feature_repo --feature-store-yaml feature_repo/environments/local/feature_store.yaml apply

Feast demands that definitions stand at module level, so this file alone reads the environment at import.
"""

import os
from pathlib import Path

from feature_repo.definitions import define

_offline = Path(os.environ.get("FEATURE_STORE_HOME", "var/feature_store")).absolute() / "offline"
_definitions = define(os.environ.get("FEATURE_STORE_OFFLINE", str(_offline)), _offline)

for _one in _definitions.everything:
    globals()[_one.name if _one not in _definitions.entities else f"{_one.name}_entity"] = _one
