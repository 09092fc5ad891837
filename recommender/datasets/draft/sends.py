"""Drafts targets and participations that are rows of a log: offers received and completed, emails sent.

Where a campaign is sent to the same user again and again, each of its waves is a campaign of its own.
"""

from collections.abc import Sequence

from recommender.datasets.draft.evidence import FileEvidence
from recommender.datasets.draft.kinds import SENT, TAKEN
from recommender.datasets.draft.moments import timestamp_sql
from recommender.datasets.draft.rows import sql_name
from recommender.datasets.draft.sections import Log, Section
from recommender.datasets.reading.raw import literal

MOST_WAVES = 500
"""Waves, times campaigns, up to which a send belongs to a wave: automatic mails are sent at any moment. By hand."""
WINDOW_DAYS = 7
"""Days that a wave counts as live where no file says how long its campaign lasts. Chosen by hand."""


def send_sections(sections: Sequence[Section], files: Sequence[FileEvidence], *, has_campaigns: bool) -> list[Section]:
    """Targets, participations and waves of the logs among the sections of events."""
    found = []
    for section in sections:
        log = section.log
        if log is None or not {"campaign_id", "user_id", "event_time"} <= set(log.columns):
            continue
        sent = [word for word, meaning in log.words.items() if meaning == SENT]
        taken = [word for word, meaning in log.words.items() if meaning == TAKEN]
        if not sent:
            continue
        if not has_campaigns and _comes_in_waves(section, sent):
            found += _waves(section, log, sent, taken, files)
            # What the log calls a campaign is none of these.
            log.without("campaign_id")
        else:
            found.append(_plain(section, log, sent, "targets", "targeted_at"))
            found += [_plain(section, log, taken, "participations", "participated_at")] if taken else []
    return found


def _plain(section: Section, log: Log, words: Sequence[str], table: str, when: str) -> Section:
    """The rows of some words, once for each user and campaign, at their first time."""
    campaign, user, time = (log.columns[one] for one in ("campaign_id", "user_id", "event_time"))
    result = _like(section, table, when)
    result.query = (
        f"SELECT {campaign} AS campaign_id, {user} AS user_id, min({time}) AS {when}\nFROM {log.source}\n"
        f"WHERE {_is(log, words)} AND campaign_id IS NOT NULL\nGROUP BY ALL"
    )
    result.comments.append(f"CHECK: {', '.join(words)} in {log.kind} are {table}")
    return result


def _like(section: Section, table: str, *whens: str) -> Section:
    """A section of the same files, whose times are written as in the log."""
    result = Section(table, list(section.files))
    result.columns = {
        one: one for one in ("campaign_id", "user_id", *whens) if table != "campaigns" or one != "user_id"
    }
    written = section.formats.get("event_time")
    result.formats = dict.fromkeys(whens, written) if written else {}
    result.first_day = section.first_day
    return result


def _is(log: Log, words: Sequence[str]) -> str:
    return f"{log.kind} IN ({', '.join(map(literal, words))})"


def _comes_in_waves(section: Section, sent: Sequence[str]) -> bool:
    """Whether many users receive a campaign at the same few moments."""
    file = section.files[0]
    kind, campaigns = file.columns.get(section.columns["kind"]), file.candidates("campaign")
    moment = next(iter([*file.candidates("event_time"), *file.candidates("hours_since_start")]), None)
    # A time in a format of its own would have to be read by it in SQL.
    if kind is None or moment is None or not campaigns or section.formats.get("event_time"):
        return False
    campaign = f"coalesce({', '.join(one.text for one in campaigns)})"
    rows, waves = file.connection.execute(
        f"SELECT count(*), count(DISTINCT ({campaign}, {moment.text})) FROM {file.view} "
        f"WHERE {kind.text} IN ({', '.join(map(literal, sent))}) AND {campaign} IS NOT NULL"
    ).fetchone() or (0, 0)
    return bool(rows and waves <= min(MOST_WAVES, rows / 2))


def _waves(
    section: Section, log: Log, sent: Sequence[str], taken: Sequence[str], files: Sequence[FileEvidence]
) -> list[Section]:
    """Each moment at which a campaign is sent makes a campaign; what is taken up belongs to the last one before."""
    campaign, user, time = (log.columns[one] for one in ("campaign_id", "user_id", "event_time"))
    time = timestamp_sql(time, None)
    named = f"SELECT {campaign} AS offer, {user} AS person, {time} AS sent_at"
    sends = f"({named} FROM {log.source} WHERE {_is(log, sent)}) AS s"
    took = f"(SELECT {campaign} AS what, {user} AS who, {time} AS at FROM {log.source} WHERE {_is(log, taken)}) AS t"
    key = "offer || '-' || strftime(sent_at, '%Y-%m-%d %H:%M')"
    days, join, also = _duration(section, files)
    # Informational offers, which nobody can take up, teach nothing about who does.
    ever = f"WHERE offer IN (SELECT {campaign} FROM {log.source} WHERE {_is(log, taken)})" if taken else ""
    campaigns = _like(section, "campaigns", "starts_at", "ends_at")
    campaigns.files += also
    campaigns.query = (
        f"SELECT DISTINCT {key} AS campaign_id, offer AS name, sent_at AS starts_at,\n"
        f"    sent_at + to_days({days}) AS ends_at\n"
        f"FROM {sends}{join}\n{ever}".rstrip()
    )
    campaigns.constants = {"kind": "promotion"}
    campaigns.comments = ["CHECK: a campaign is sent again and again; each time is a campaign of its own"]
    if taken:
        campaigns.comments.append(f"CHECK: campaigns without any {', '.join(taken)} are left out")
    if not also:
        campaigns.comments.append(f"DECIDE: no file says how long a campaign lasts; it is taken as {days} days")
    targets = _like(section, "targets", "targeted_at")
    targets.query = (
        f"SELECT {key} AS campaign_id, person AS user_id, sent_at AS targeted_at\nFROM {sends}\n{ever}".rstrip()
    )
    result = [campaigns, targets]
    if taken:
        participations = _like(section, "participations", "participated_at")
        participations.query = (
            f"SELECT {key} AS campaign_id, person AS user_id, t.at AS participated_at\n"
            f"FROM {took}\n"
            f"ASOF JOIN {sends} ON t.who = s.person AND t.what = s.offer AND t.at >= s.sent_at"
        )
        result.append(participations)
    return result


def _duration(section: Section, files: Sequence[FileEvidence]) -> tuple[str, str, list[FileEvidence]]:
    """SQL of the days that a campaign lasts, of the join that gives them, and the file that it reads."""
    for file in files:
        key = next((one for one in file.candidates("campaign") if one.is_unique), None)
        days = next((one for one in file.candidates("duration_days") if one.is_number), None)
        if file is not section.files[0] and key is not None and days is not None:
            file.taken = True
            lasts, known = sql_name(days.name), sql_name(key.name)
            return f"CAST({file.name}.{lasts} AS INTEGER)", f" JOIN {file.name} ON offer = {file.name}.{known}", [file]
    return str(WINDOW_DAYS), "", []
