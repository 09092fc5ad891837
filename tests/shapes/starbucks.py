"""Starbucks offers (Udacity): three files of JSON lines, `portfolio`, `profile` and `transcript`.

Traps: `value` is a record with the key "offer id" in some events and "offer_id" in others; time is hours since a start
that nothing names; an offer is sent in several waves, and each wave is a campaign with a window of its own; an age of
118 means that nobody said it; purchases name no product; informational offers cannot be completed.
"""

from pathlib import Path

from shapes.export_files import Record, write_json_lines

PERSONS = tuple(f"{(n + 1) * 2654435761 % 2**32:08x}795e4d85b5d9ceeca43f5fef" for n in range(14))
# reward, channels, difficulty, duration in days, offer_type, id
OFFERS = (
    (10, ["email", "mobile", "social"], 10, 7, "bogo", "ae264e3637204a6fb9bb56bc8210ddfe"),
    (2, ["web", "email", "mobile"], 10, 10, "discount", "0b1e1539f2cc45b7b9fa7c272da2e1d8"),
    (0, ["web", "email", "mobile"], 0, 4, "informational", "3f207df678b143eea3cee63160fa8bee"),
    (5, ["web", "email", "mobile", "social"], 5, 5, "bogo", "9b98b8c7a33c4b65b9aebfe6a799e6da"),
)
WAVES = (0, 168, 336, 408)


def write(folder: Path) -> list[Path]:
    keys = ("reward", "channels", "difficulty", "duration", "offer_type", "id")
    profile: list[Record] = [
        {"gender": None, "age": 118, "id": person, "became_member_on": 20170212, "income": None}
        if n % 5 == 4
        else {"gender": "MFO"[n % 3], "age": 33 + 4 * n, "id": person, "became_member_on": 20180713 - 10000 * (n % 4),
              "income": 40000.0 + 3000 * n}
        for n, person in enumerate(PERSONS)
    ]  # fmt: skip
    return [
        write_json_lines(folder / "portfolio.json", [dict(zip(keys, offer, strict=True)) for offer in OFFERS]),
        write_json_lines(folder / "profile.json", profile),
        write_json_lines(folder / "transcript.json", _transcript()),
    ]


def _transcript() -> list[Record]:
    """In each wave ten persons receive an offer. Every second one of them views it, every fifth one completes it."""
    found: list[tuple[int, str, str, Record]] = []
    for week in range(4):
        for n, person in enumerate(PERSONS):
            found.append((168 * week + 12 + 6 * n, person, "transaction", {"amount": 1.25 + n + week}))
    for wave, time in enumerate(WAVES):
        for n in range(10):
            person, offer = PERSONS[(n + 2 * wave) % len(PERSONS)], OFFERS[(n + wave) % len(OFFERS)]
            found.append((time, person, "offer received", {"offer id": offer[-1]}))
            if n % 2 == 0:
                found.append((time + 6, person, "offer viewed", {"offer id": offer[-1]}))
            if n % 5 == 0:
                found.append((time + 18, person, "transaction", {"amount": 20.5}))
                if offer[4] != "informational":
                    completed = {"offer_id": offer[-1], "reward": offer[0]}
                    found.append((time + 18, person, "offer completed", completed))
    return [
        {"person": person, "event": event, "value": value, "time": time}
        for time, person, event, value in sorted(found, key=lambda one: one[0])
    ]


RECIPE = """\
[source]
time_zone = "UTC"
currency = "USD"

[inputs]
portfolio = { file = "portfolio.json" }
profile = { file = "profile.json" }
transcript = { file = "transcript.json" }

[[tables.events]]
query = '''
SELECT person AS user_id, TIMESTAMP '2018-07-01' + to_hours(time) AS event_time, value.amount
FROM transcript WHERE event = 'transaction'
'''
constants = { kind = "purchase", item_id = "anything" }

[[tables.events]]
query = '''
WITH received AS (
    SELECT person, value."offer id" AS offer, time FROM transcript JOIN portfolio ON id = value."offer id"
    WHERE event = 'offer received' AND offer_type <> 'informational'
)
SELECT v.person AS user_id, TIMESTAMP '2018-07-01' + to_hours(v.time) AS event_time,
    r.offer || '-' || r.time AS campaign_id
FROM (SELECT person, value."offer id" AS offer, time FROM transcript WHERE event = 'offer viewed') v
ASOF LEFT JOIN received r ON v.person = r.person AND v.offer = r.offer AND v.time >= r.time
'''
constants = { kind = "view" }

[tables.users]
query = '''
SELECT id AS user_id, gender, nullif(age, 118) AS age_band, income AS income_band, became_member_on AS joined_at
FROM profile
'''

[tables.campaigns]
query = '''
SELECT DISTINCT id || '-' || time AS campaign_id, offer_type AS campaign_type,
    TIMESTAMP '2018-07-01' + to_hours(time) AS starts_at,
    TIMESTAMP '2018-07-01' + to_hours(time) + to_days(duration::INTEGER) AS ends_at
FROM transcript JOIN portfolio ON id = value."offer id"
WHERE event = 'offer received' AND offer_type <> 'informational'
'''
constants = { kind = "coupon" }

[tables.targets]
query = '''
SELECT value."offer id" || '-' || time AS campaign_id, person AS user_id
FROM transcript JOIN portfolio ON id = value."offer id"
WHERE event = 'offer received' AND offer_type <> 'informational'
'''

[tables.participations]
query = '''
SELECT r.offer || '-' || r.time AS campaign_id, c.person AS user_id,
    TIMESTAMP '2018-07-01' + to_hours(c.time) AS participated_at
FROM (SELECT person, value.offer_id AS offer, time FROM transcript WHERE event = 'offer completed') c
ASOF JOIN (SELECT person, value."offer id" AS offer, time FROM transcript WHERE event = 'offer received') r
    ON c.person = r.person AND c.offer = r.offer AND c.time >= r.time
'''
"""

JUDGED = {
    "events": ("user_id", "kind", "amount"),
    "users": ("user_id", "gender"),
    "targets": ("user_id",),
    "participations": ("user_id",),
}

CHECKS = [
    # 14 persons in four weeks, and two more purchases and five views in each of four waves.
    ("SELECT kind, count(*) FROM events GROUP BY 1 ORDER BY 1", [("purchase", 64), ("view", 20)]),
    # In wave w the offer of the n-th is (n + w) modulo 4. Offer 2 is informational: n = 2, 6 of wave 0, 1, 5, 9 of wave
    # 1, 0, 4, 8 of wave 2, and 3, 7 of wave 3. So 8, 7, 7 and 8 are targets.
    ("SELECT starts_at::DATE::VARCHAR, count(*) FROM targets JOIN campaigns USING (campaign_id) GROUP BY 1 ORDER BY 1",
     [("2018-07-01", 8), ("2018-07-08", 7), ("2018-07-15", 7), ("2018-07-18", 8)]),
    # n = 0 and 5 complete. Wave 0: offers 0 and 1; wave 1: 1 and 2; wave 2: 2 and 3; wave 3: 3 and 0.
    ("SELECT campaign_id, user_id, participated_at::VARCHAR FROM participations ORDER BY 3, 1", [
        (f"{OFFERS[1][-1]}-0", PERSONS[5], "2018-07-01 18:00:00+00"),
        (f"{OFFERS[0][-1]}-0", PERSONS[0], "2018-07-01 18:00:00+00"),
        (f"{OFFERS[1][-1]}-168", PERSONS[2], "2018-07-08 18:00:00+00"),
        (f"{OFFERS[3][-1]}-336", PERSONS[9], "2018-07-15 18:00:00+00"),
        (f"{OFFERS[3][-1]}-408", PERSONS[6], "2018-07-18 18:00:00+00"),
        (f"{OFFERS[0][-1]}-408", PERSONS[11], "2018-07-18 18:00:00+00"),
    ]),
    ("SELECT ends_at::VARCHAR FROM campaigns WHERE campaign_id LIKE '0b1e%-168'", [("2018-07-18 00:00:00+00",)]),
    # Persons 4 and 9 have not said their age.
    ("SELECT count(*), count(age_band), min(joined_at)::DATE::VARCHAR FROM users", [(14, 12, "2015-07-13")]),
]  # fmt: skip
