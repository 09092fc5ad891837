"""Derives the tables and columns that a shop's files lack from those that they have.

Every derivation is a sentence for the manifest. `present` lists the columns of each table (a DuckDB view or table of
that name), and grows.
"""

import duckdb

from recommender.errors import ContractError

Present = dict[str, list[str]]


def derive_missing(connection: duckdb.DuckDBPyConnection, present: Present, decisions: list[str]) -> None:
    """Create users, items, campaign_items, targets and participations where no file holds them.

    Raises:
        ContractError: participations cannot be derived, because events name neither items nor campaigns.
    """
    _derive_entities(connection, present, decisions)
    _derive_campaign_items(connection, present, decisions)
    _derive_targets(connection, present, decisions)
    _derive_participations(connection, present, decisions)


def _derive_entities(connection: duckdb.DuckDBPyConnection, present: Present, decisions: list[str]) -> None:
    """Create users and items from the identifiers in the other tables, where no file holds them."""
    for table, key in (("users", "user_id"), ("items", "item_id")):
        if table not in present:
            origins = [name for name, columns in present.items() if key in columns]
            if not origins:
                problem = f"no file has this column, and no file of {table} is mapped; map it in events"
                raise ContractError("events", problem, column=key)
            # DISTINCT, because a single origin makes no UNION that would drop repeats.
            query = " UNION ".join(f"SELECT DISTINCT {key} FROM {name} WHERE {key} IS NOT NULL" for name in origins)
            connection.execute(f"CREATE TABLE {table} AS {query}")
            present[table] = [key]
            decisions.append(f"{table}: no file; the identifiers in {', '.join(origins)}, without attributes.")


def _derive_campaign_items(connection: duckdb.DuckDBPyConnection, present: Present, decisions: list[str]) -> None:
    """Create campaign_items: the items of the events that name the campaign, or else all items."""
    if "campaign_items" in present:
        return
    named = {"campaign_id", "item_id"} <= set(present["events"])
    own = (
        "SELECT DISTINCT campaign_id, item_id FROM events WHERE campaign_id IS NOT NULL AND item_id IS NOT NULL"
        if named
        else "SELECT NULL::VARCHAR AS campaign_id, NULL::VARCHAR AS item_id LIMIT 0"
    )
    connection.execute(f"CREATE TABLE items_named AS {own}")
    connection.execute(
        "CREATE TABLE campaign_items AS SELECT campaign_id, item_id FROM items_named "
        "UNION ALL SELECT c.campaign_id, i.item_id FROM campaigns c, items i "
        "WHERE c.campaign_id NOT IN (SELECT campaign_id FROM items_named)"
    )
    present["campaign_items"] = ["campaign_id", "item_id"]
    query = "SELECT count(*), count(*) FILTER (campaign_id IN (SELECT campaign_id FROM items_named)) FROM campaigns"
    campaigns, with_own = connection.execute(query).fetchone() or (0, 0)
    decisions.append(
        f"campaign_items: no file; {with_own:,} of {campaigns:,} campaigns cover the items of the events that name "
        f"them, and {campaigns - with_own:,} cover all items."
    )


def _derive_targets(connection: duckdb.DuckDBPyConnection, present: Present, decisions: list[str]) -> None:
    """Create targets, or their `targeted_at`, where no file holds them."""
    if "targets" not in present:
        connection.execute(
            "CREATE TABLE targets AS "
            "SELECT campaign_id, user_id, starts_at AS targeted_at FROM users "
            # One row for each user: to join a log with all campaigns would be too much.
            "JOIN (SELECT user_id, min(event_time) AS since FROM events GROUP BY 1) USING (user_id) "
            "JOIN campaigns ON since < starts_at UNION "
            "SELECT campaign_id, user_id, starts_at FROM participations JOIN campaigns USING (campaign_id)"
        )
        present["targets"] = ["campaign_id", "user_id", "targeted_at"]
        decisions.append(
            "targets: no file; every user with an event before a campaign's start, and every participant, "
            "counts as targeted."
        )
    elif "targeted_at" not in present["targets"]:
        connection.execute("ALTER VIEW targets RENAME TO targets_without_time")
        connection.execute(
            "CREATE TABLE targets AS SELECT t.*, starts_at AS targeted_at "
            "FROM targets_without_time t LEFT JOIN campaigns USING (campaign_id)"
        )
        present["targets"] = [*present["targets"], "targeted_at"]
        decisions.append("targets: no targeted_at; it is the campaign's start.")


def _derive_participations(connection: duckdb.DuckDBPyConnection, present: Present, decisions: list[str]) -> None:
    """Create participations from purchases, where no file holds them. What was brought back is none."""
    if "participations" in present:
        return
    events = present["events"]
    by_campaign = "campaign_id" in events
    if not by_campaign and "item_id" not in events:
        problem = (
            "no file has this column, which is needed to derive participations; "
            "map it, or events.campaign_id, or a file of participations"
        )
        raise ContractError("events", problem, column="item_id")
    kept = "".join(f"AND coalesce({column} >= 0, true) " for column in ("quantity", "amount") if column in events)
    if "returned_share" in events:
        kept += "AND coalesce(returned_share < 1, true) "
    of_an_item = (
        "AND EXISTS (SELECT 1 FROM campaign_items i WHERE i.campaign_id = c.campaign_id AND i.item_id = e.item_id) "
    )
    connection.execute(
        "CREATE TABLE participations AS SELECT c.campaign_id, user_id, min(event_time) AS participated_at "
        "FROM targets t JOIN campaigns c USING (campaign_id) "
        f"JOIN events e USING (user_id{', campaign_id' if by_campaign else ''}) WHERE e.kind = 'purchase' {kept}"
        f"AND event_time >= targeted_at AND event_time < ends_at {'' if by_campaign else of_an_item}GROUP BY 1, 2"
    )
    present["participations"] = ["campaign_id", "user_id", "participated_at"]
    purchase = "that names the campaign" if by_campaign else "of one of its items"
    decisions.append(
        f"participations: no file; a targeted user's first purchase {purchase}, from the decision to the window's end."
    )
