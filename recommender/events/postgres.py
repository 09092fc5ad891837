"""Tables of the tails in PostgreSQL: made by the materialise step, read with users' rows, written by the gateway."""


def tails_table(project: str) -> str:
    """The table (user_id, body) of users' tails, quoted for SQL."""
    return _quoted(f"{project}_event_tails")


def seen_table(project: str) -> str:
    """The table (event_id, day) of the ids that came, quoted for SQL."""
    return _quoted(f"{project}_event_ids")


def statements(project: str) -> tuple[str, str]:
    """SQL that makes the tables where they are missing."""
    return (
        f"CREATE TABLE IF NOT EXISTS {tails_table(project)} (user_id text PRIMARY KEY, body bytea NOT NULL)",
        f"CREATE TABLE IF NOT EXISTS {seen_table(project)} (event_id text PRIMARY KEY, day integer NOT NULL)",
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
