"""HTML page of a validation: verdict, failures with their rows, tables in pictures, all expectations, quarantine."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from components.validate_data.days_section import days_section
from components.validate_data.outcome import Outcome
from components.validate_data.rows import Aside
from components.validate_data.verdict import Verdict
from recommender.datasets.statistics.by_day import QUARTER_US
from recommender.datasets.tables import CONTRACT, Tables
from recommender.report import Banner, Html, Section, badge, bar_chart, bullets, fold, page, paragraph, percent, table
from recommender.report.page import Tone
from recommender.storage.manifest import NAME_DIGITS

SHOWN = 8
"""Most reasons, and most rows of each reason, on the page: enough to see a pattern. Chosen by hand."""


def validation_page(
    source: Tables, verdict: Verdict, aside: Mapping[str, Aside], connection: Any, as_of: datetime
) -> str:
    """The page's HTML.

    Args:
        source: the tables as they were read.
        verdict: what was found.
        aside: the rows set aside, by table.
        connection: has a view of each cleaned table. None if the schema failed. The page then has no charts of rows.
        as_of: the moment of decision.
    """
    failed = [one for one in verdict.outcomes if one.status == "failed"]
    accepted = [one for one in verdict.outcomes if one.status == "accepted"]
    sections = [_failures(failed)] if failed else []
    if verdict.statistics is not None and verdict.statistics.num_days:
        sections.append(days_section(verdict.statistics))
    if accepted:
        lines = [one.in_short() for one in accepted]
        sections.append(Section("Accepted changes", "Changes that a person accepted as true.", blocks=[bullets(lines)]))
    if connection is not None:
        sections.append(_tables(source, verdict, connection))
    sections.append(_expectations(verdict.outcomes))
    if aside:
        sections.append(_quarantine(source, aside))
    decisions = source.manifest.get("decisions", [])
    if decisions:
        lead = "How the reader handled ambiguities of the source."
        sections.append(Section("Decisions", lead, blocks=[bullets(decisions)]))
    return page(
        "Data validation",
        _banner(verdict, failed),
        sections,
        subtitle=f"{source.manifest.get('source', '')} · as of {as_of:%Y-%m-%d %H:%M %Z}",
        footer=f"data {source.data_hash[:NAME_DIGITS]}",
    )


def _banner(verdict: Verdict, failed: list[Outcome]) -> Banner:
    judged = sum(one.status != "not applicable" for one in verdict.outcomes)
    if verdict.critical:
        headline = f"{len(verdict.critical)} critical expectation(s) failed. The run stopped, and serving is unchanged."
        return Banner("FAILED", headline, "bad", [one.in_short() for one in verdict.critical[:SHOWN]])
    if failed:
        headline = (
            f"{judged - len(failed)} of {judged} expectations hold; {len(failed)} warning(s), none of them critical."
        )
        reasons = [one.in_short() for one in failed[:SHOWN]]
        return Banner("PASSED WITH WARNINGS", headline, "warn", reasons)
    return Banner("PASSED", f"All {judged} expectations hold.", "good")


def _failures(failed: list[Outcome]) -> Section:
    blocks: list[Html] = []
    for one in sorted(failed, key=lambda o: not o.critical):
        title = f"{one.place} ({one.severity}): {one.cause or one.sentence}"
        title += f" [{one.check}: observed {one.observed}{f', wanted {one.wanted}' if one.wanted else ''}]"
        if one.rows:
            columns = list(dict.fromkeys(name for row in one.rows for name in row))
            cells = [[_shown(row.get(name)) for name in columns] for row in one.rows]
            blocks.append(table(columns, cells, caption=title))
        else:
            blocks.append(paragraph(title + "."))
    lead = (
        "What it looks like, and the first failing rows. A true change is accepted with: recommender validate --accept"
    )
    return Section("What failed", f"{lead} CHECK --reason …, where CHECK is the name in brackets.", blocks=blocks)


def _shown(value: object) -> object:
    return None if value is None else str(value)


def _tables(source: Tables, verdict: Verdict, connection: Any) -> Section:
    rows = {name: float(found["rows"] or 0) for name, found in verdict.figures.items()}
    # In the shop's zone: its first of January begins hours before or after that of UTC. The zone's clock is found once
    # for each quarter of an hour, because to find it for each row takes long.
    months, starts = (
        connection.execute(
            f"SELECT strftime(timezone(?, make_timestamptz(quarter * {QUARTER_US})), '%Y-%m') AS month, sum(rows) FROM "
            f"(SELECT epoch_us({column}) // {QUARTER_US} AS quarter, count(*) AS rows FROM {table} "
            f"WHERE {column} IS NOT NULL GROUP BY 1) GROUP BY 1 ORDER BY 1",
            [source.time_zone],
        ).fetchall()
        for table, column in (("events", "event_time"), ("campaigns", "starts_at"))
    )
    missing: dict[str, float] = {}
    for name in rows:
        optional = [c for c, column in CONTRACT[name].columns.items() if column.nullable and source.has(name, c)]
        if optional and rows[name]:
            shares = ", ".join(f"avg(({column} IS NULL)::INT)" for column in optional)
            values = connection.sql(f"SELECT {shares} FROM {name}").fetchall()[0]
            missing |= {f"{name}.{c}": float(v) for c, v in zip(optional, values, strict=True) if v}
    figures = [
        bar_chart("Events by month", {m: float(n) for m, n in months}, columns=True, wide=True, axis="events"),
        bar_chart("Rows kept by table", rows),
        bar_chart(
            "Campaigns by month of their start", {m: float(n) for m, n in starts}, columns=True, axis="campaigns"
        ),
    ]
    if missing:
        figures.append(bar_chart("Share of values missing (only columns with any)", missing, form=percent, top=1.0))
    lines = [
        [name, what, value]
        for name, found in verdict.figures.items()
        for what, value in found.items()
        if what not in ("rows", "quarantined") and value is not None
    ]
    facts = {"rows kept": int(sum(rows.values())), "rows set aside": int(verdict.metrics["quarantined"])}
    return Section(
        "The tables",
        figures=figures,
        facts=facts,
        blocks=[fold("All figures", table(["table", "figure", "value"], lines))],
    )


def _expectations(outcomes: tuple[Outcome, ...]) -> Section:
    kinds = ("passed", "failed", "accepted", "not applicable")
    counts = {k: {n: float(sum(o.table == n and o.status == k for o in outcomes)) for n in CONTRACT} for k in kinds}
    rows: list[list[object]] = []
    tones: list[Tone | None] = []
    for one in outcomes:
        tone: Tone = "good" if one.status == "passed" else "neutral"
        if one.status == "failed":
            tone = "bad" if one.critical else "warn"
        tones.append(tone if one.status == "failed" else None)
        rows.append(
            [badge(one.status, tone), one.severity, one.table, one.column, one.sentence, one.wanted, one.observed]
        )
    columns = ["outcome", "severity", "table", "column", "what is expected", "bounds", "observed"]
    figures = [bar_chart("Expectations by table", counts, stacked=True)]
    listed = fold(f"All {len(rows)} expectations", table(columns, rows, tones=tones))
    return Section("Expectations", figures=figures, blocks=[listed])


def _quarantine(source: Tables, aside: Mapping[str, Aside]) -> Section:
    reasons: dict[str, float] = {}
    examples: list[list[object]] = []
    for name, one in aside.items():
        reasons |= {f"{name}.{reason}": float(count) for reason, count in one.reasons.items()}
        for row in one.examples[:SHOWN]:
            key = ", ".join(f"{k} {row[k]}" for k in CONTRACT[name].key if k in row)
            examples.append([name, row["_row"], key, row["_reason"]])
    read = {name: float(count) for name, count in source.manifest.get("quarantined", {}).items() if count}
    figures, blocks = [], []
    if reasons:
        # The twenty commonest reasons: a screen's worth of bars.
        common = sorted(reasons.items(), key=lambda pair: -pair[1])[:20]
        figures.append(bar_chart("Rows set aside, by reason", dict(common)))
        blocks.append(table(["table", "row", "key", "reason"], examples, caption="The first rows of each reason"))
    if read:
        figures.append(bar_chart("Rows already set aside when the source was read", read))
    lead = (
        "Rows that break a rule of the contract are kept in quarantine/ with row number and reason. Nothing is dropped."
    )
    return Section("Quarantine", lead if reasons or read else "No row was set aside.", figures=figures, blocks=blocks)
