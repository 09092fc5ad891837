"""The page of monitoring: what is wrong and what to do, then each feature's histogram then and now, then tables."""

from collections.abc import Sequence
from datetime import datetime

from recommender.monitoring.ages import age_in_words, in_words
from recommender.monitoring.findings import Age, FeatureDrift, Finding, Report, Served
from recommender.monitoring.metrics import metrics_text
from recommender.report.axes import Html, percent
from recommender.report.bars import bar_chart
from recommender.report.page import Banner, Section, Tone, badge, fold, page, paragraph, table
from recommender.storage.home import Home
from recommender.storage.manifest import SHOWN_DIGITS, write_text

SHOWN = 8
"""Features that get a picture: those that moved most, weighed by importance. By hand: a page of some 60 kB."""


def publish_monitoring(report: Report, home: Home) -> str:
    """Write report, page and metrics below `home`/monitoring, each whole, and return the page."""
    names, text = home.monitoring, monitoring_page(report)
    names.root.mkdir(parents=True, exist_ok=True)
    write_text(names.report, report.model_dump_json(indent=1))
    write_text(names.page, text)
    write_text(names.metrics, metrics_text(report))
    return text


def monitoring_page(report: Report) -> str:
    """The whole page as HTML."""
    broken = report.broken
    headline = f"Broken limits: {len(broken)}." if broken else "No limit is broken."
    others = len(report.findings) - len(broken)
    if others:
        headline += f" Findings that break none: {others}."
    banner = Banner(
        "ALERT" if broken else "OK",
        headline,
        tone="bad" if broken else "good",
        reasons=[f"{finding.words} {finding.remedy}" for finding in broken],
    )
    sections = [
        _features(report),
        Section("Ages", lead=_ages_lead(report), blocks=[_ages(report.ages, report.now)]),
        _served(report),
        Section("All findings", blocks=[_findings(report.findings)]),
    ]
    subtitle = f"{report.champion}, looked at {report.now:%Y-%m-%d %H:%M} UTC"
    footer = f"run {report.run or 'by hand'} · data {report.data_hash[:SHOWN_DIGITS]}"
    return page("Monitoring", banner, sections, subtitle=subtitle, footer=footer)


def _features(report: Report) -> Section:
    if not report.drift:
        return Section("Features", lead="The champion has no distributions to compare the features with.")
    assert report.reference_as_of is not None
    lead = (
        f"Each picture shows how a feature was distributed when the champion was trained "
        f"({report.reference_as_of:%Y-%m-%d}, {report.num_users_before:,} users), and how it is now "
        f"({report.features_as_of:%Y-%m-%d}, {report.num_users_now:,} users): over users, over campaigns, or over "
        f"pairs of a user and a candidate. {report.campaigns_note} The order is importance times drift. Importance: "
        f"{report.importance}."
    )
    moved = [one for one in report.drift if one.moved][:SHOWN]
    none = [paragraph("No feature moved beyond chance.")] if not moved else []
    return Section(
        "Features",
        lead=lead,
        figures=[_histogram(one) for one in moved],
        blocks=[*none, fold("Every feature", _drift(report.drift))],
    )


def _histogram(one: FeatureDrift) -> Html:
    drift = f"over {one.over}: index {one.psi:.2f}{_chance(one.psi_by_chance)}, KS {one.ks:.2f}"
    drift += _chance(one.ks_by_chance)
    note = f"importance {percent(one.importance)}, {drift}"
    then = {label: before for label, before, _ in one.bins}
    now = {label: after for label, _, after in one.bins}
    return bar_chart(one.name, {"in training": then, "now": now}, form=percent, note=note)


def _chance(by_chance: float | None) -> str:
    return "" if by_chance is None else f" (chance: {by_chance:.2f})"


def _drift(drift: Sequence[FeatureDrift]) -> Html:
    rows = [
        [
            one.name,
            one.over,
            percent(one.importance),
            one.psi,
            one.psi_by_chance,
            one.ks,
            one.ks_by_chance,
            one.ks_p,
            percent(one.missing_before),
            percent(one.missing_now),
        ]
        for one in drift
    ]
    head = ["feature", "over", "importance", "index", "by chance", "KS", "by chance", "p of KS"]
    caption = (
        "Over users, KS is computed at the edges of 50 bins, so its p-value is too large, if anything. Over campaigns "
        "and pairs, p is the share of random deals of whole campaigns in which any of these features moved as far."
    )
    return table([*head, "missing then", "missing now"], rows, caption=caption)


def _ages_lead(report: Report) -> str:
    return f"Hours from the newest row to {report.now:%Y-%m-%d %H:%M} UTC, against monitoring.max_age_hours."


def _ages(ages: Sequence[Age], now: datetime) -> Html:
    rows = [
        [
            one.name,
            f"{one.newest:%Y-%m-%d %H:%M}" if one.newest else "none",
            age_in_words(one, now),
            in_words(one.promise_hours) if one.promise_hours is not None else "none",
            badge(*_kept(one)),
        ]
        for one in ages
    ]
    return table(["table or view", "newest (UTC)", "age", "promise", ""], rows)


def _kept(one: Age) -> tuple[str, Tone]:
    if one.promise_hours is None:
        return "no promise", "neutral"
    kept = one.hours is not None and one.hours <= one.promise_hours
    return ("kept", "good") if kept else ("broken", "bad")


def _served(report: Report) -> Section:
    lead = (
        "Each pair of user and campaign counts once, when the campaign has ended: the probability of its first "
        "decision, and whether the user took part from then on. The interval is over users and campaigns."
    )
    note = [paragraph(report.served_note)] if report.served_note else []
    rows = [
        [
            one.campaign_type or "all",
            one.pairs,
            one.campaigns,
            one.expected,
            one.observed,
            _ratio(one),
            one.log_loss,
        ]
        for one in report.served
    ]
    head = ["campaign type", "pairs", "campaigns", "expected", "came", "came / expected", "log loss"]
    return Section("What was served and what came", lead=lead, blocks=[*note, *([table(head, rows)] if rows else [])])


def _ratio(one: Served) -> str:
    if not one.judged or one.ratio is None or one.low is None or one.high is None:
        return "too few"
    return f"{one.ratio:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _findings(findings: Sequence[Finding]) -> Html:
    if not findings:
        return paragraph("There are none.")
    rows = [
        [
            badge("breaks a limit", "bad") if finding.breaks else badge("no limit", "neutral"),
            finding.words,
            finding.remedy,
        ]
        for finding in findings
    ]
    return table(["", "what", "what to do"], rows)
