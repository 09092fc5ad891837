"""POST /v1/events: checks events, logs them durably, and appends them to their users' tails before it answers 202."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from recommender import logs
from recommender.errors import FeatureStoreError
from recommender.events.contract import DATED, Event, Stamped, Wrong, read_event
from recommender.events.log import EventLog, LogFull
from recommender.events.tail import WITHOUT_ROW, line_of
from recommender.matching.catalogue import Catalogue
from recommender.matching.event_rules import EventRules
from recommender.matching.packed_user import Newcomer, PackedUser
from recommender.settings import Settings
from recommender.storage.forgotten import Forgotten, ForgottenFollower
from serving.event_tails.append import Append
from serving.event_tails.tails import Tails
from serving.gateway.arrival import Arrival
from serving.gateway.folding import Folding
from serving.gateway.metrics import Metrics
from serving.gateway.refusals import Refused, unavailable
from serving.online_store.client import OnlineStoreClient
from serving.request import MAX_PROBLEMS, InvalidRequest, Problem
from serving.shop import ShopFollower

SHORTENED_BYTES = 4_096
"""A longer tail loses the events that its row has read meanwhile. By hand: some thirty events."""
MOST_TAIL_BYTES = 256 * 1_024
"""A longer tail takes no further event: the event is quarantined, and the next materialisation reads it. By hand: two
thousand events of one user since the last materialisation are no shopper's."""
LATE = "it counts once `recommender backfill` accepts its day"
TOO_MANY = Wrong("user_id", "too many events of this user: it counts after the next materialisation")
Known = PackedUser | Newcomer | None
"""What the online store holds of a user."""
READS_AT_ONCE = 16
"""Users that are read before other requests get their turn. By hand: a millisecond or two."""


@dataclass(frozen=True, kw_only=True)
class EventIntake:
    """Takes events, one for each gateway process."""

    settings: Settings
    shops: ShopFollower
    online_store: OnlineStoreClient
    tails: Tails
    log: EventLog
    folding: Folding
    metrics: Metrics
    forgotten: ForgottenFollower

    async def take(self, body: bytes, arrival: Arrival) -> bytes:
        """The answer to /v1/events, once every event that it counts as taken can be lost no more.

        Raises:
            InvalidRequest: The body is no JSON, or no event in it keeps the contract.
            Refused: The log or the store is late or away, or it is not known who was forgotten. Sending the same again
                is safe.
        """
        try:
            return await self._taken(body, arrival)
        except Refused:
            self.metrics.events_refused.inc()
            raise

    async def _taken(self, body: bytes, arrival: Arrival) -> bytes:
        documents, is_batch = self._documents(body)
        forgotten = self.forgotten.current
        if forgotten is None:
            raise unavailable(
                "it is not known which users were forgotten, because their list cannot be read, so no event is taken"
            )
        shop = self.shops.current
        if shop is None:
            raise unavailable("no catalogue was materialised yet")
        catalogue, received_us = shop.catalogue, time.time_ns() // 1_000
        taken: list[tuple[int, Stamped]] = []
        problems: list[dict[str, Any]] = []
        wrong: list[tuple[int, list[Wrong]]] = []
        for index, document in enumerate(documents):
            found = self._checked(document, forgotten, catalogue.event_rules or EventRules())
            if isinstance(found, Stamped):
                taken.append((index, found))
                continue
            wrong.append((index, found))
            problems += [
                {"index": index, "field": one.field, "reason": one.reason, "status": "rejected"} for one in found
            ]
        for _, found_wrong in wrong:
            self.metrics.events_rejected.labels(_label(found_wrong[0].field)).inc()
        if not taken:
            raise InvalidRequest(_named(wrong, is_batch=is_batch))
        events = [stamped for _, stamped in taken]
        users = await self._users({event.user_id for event, _ in events})
        why = self._why_not(events, users, catalogue)
        new = await self._kept(events, why, users, received_us, arrival)
        problems += [
            {"index": index, "field": reason.field, "reason": reason.reason, "status": "quarantined"}
            for (index, _), reason, is_new in zip(taken, why, new, strict=True)
            if reason is not None and is_new
        ]
        set_aside = [reason for reason, is_new in zip(why, new, strict=True) if reason is not None and is_new]
        quarantined, accepted = len(set_aside), sum(new) - len(set_aside)
        for reason in set_aside:
            self.metrics.events_quarantined.labels("tail" if reason is TOO_MANY else reason.field).inc()
        self.metrics.events_accepted.inc(accepted)
        for (_, stamped), problem, is_new in zip(taken, why, new, strict=True):
            if is_new and problem is None:
                self.metrics.event_age.observe(max(0.0, self.shops.now_us() - stamped.time_us) / 1e6)
        logs.bind(events=len(documents), accepted=accepted, quarantined=quarantined, rejected=len(wrong))
        return orjson.dumps(
            {
                "accepted": accepted,
                "duplicates": len(taken) - quarantined - accepted,
                "quarantined": quarantined,
                "rejected": len(wrong),
                "problems": sorted(problems, key=lambda one: one["index"]),
            }
        )

    def _documents(self, body: bytes) -> tuple[list[Any], bool]:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest([Problem(field="body", problem=f"is no JSON ({error})")]) from None
        if not isinstance(document, dict):
            raise InvalidRequest([Problem(field="body", problem="expected an event, or an object with `events`")])
        if "events" not in document:
            return [document], False
        events, most = document["events"], self.settings.events.most_in_batch
        if len(document) > 1 or not isinstance(events, list) or not events:
            problem = "a batch is an object with nothing but `events`, a list with at least one event"
            raise InvalidRequest([Problem(field="events", problem=problem)])
        if len(events) > most:
            raise InvalidRequest([Problem(field="events", problem=f"more than {most} events; send several batches")])
        return events, True

    def _checked(self, document: Any, forgotten: Forgotten, rules: EventRules) -> Stamped | list[Wrong]:
        found = read_event(document, self.shops.now_us(), rules=rules, settings=self.settings.events)
        if isinstance(found, Stamped) and found.event.user_id in forgotten:
            return [Wrong("user_id", "this user was forgotten, so nothing about the user is taken")]
        return found

    def _why_not(
        self, events: Sequence[Stamped], users: Mapping[str, Known], catalogue: Catalogue
    ) -> list[Wrong | None]:
        """For each event why it cannot count yet, or None."""
        items, campaigns, rules, why = catalogue.item_rows, catalogue.campaign_rows, catalogue.event_rules, []
        for event, time_us in events:
            user, reason = users[event.user_id], None
            # Campaigns that were hidden or taken up need no row: an unknown user has a tail of such events alone.
            if not isinstance(user, PackedUser) and not (event.kind in WITHOUT_ROW and event.campaign_id is not None):
                reason = Wrong("user_id", "unknown user: it counts once a materialisation knows the user")
            elif event.item_id is not None and event.item_id not in items:
                reason = Wrong("item_id", "unknown item: it counts once a materialisation knows the item")
            elif event.campaign_id is not None and event.campaign_id not in campaigns:
                reason = Wrong("campaign_id", "unknown campaign: it counts once a materialisation knows the campaign")
            elif rules is not None and event.kind in DATED and rules.is_late(time_us):
                reason = Wrong("event_time", f"its day is closed, the first open one is {rules.open_from}: {LATE}")
            elif user is not None and len(user.tail) > MOST_TAIL_BYTES:
                reason = TOO_MANY
            why.append(reason)
        return why

    async def _users(self, user_ids: set[str]) -> dict[str, Known]:
        users: dict[str, Known] = {}
        try:
            for number, user_id in enumerate(user_ids, start=1):
                users[user_id] = await self.online_store.read_async(user_id, self.settings.events.wait_ms / 1e3)
                if number % READS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except FeatureStoreError as error:
            raise unavailable(f"the online store cannot be read ({error})") from None
        return users

    async def _kept(
        self,
        events: Sequence[Stamped],
        why: Sequence[Wrong | None],
        users: Mapping[str, Known],
        received_us: int,
        arrival: Arrival,
    ) -> list[bool]:
        """Log events, then append those that count to their users' tails. For each event whether its id is new.

        The ids of the others are noted too: once a run has read them from the log, sent again they would count twice.
        """
        self.metrics.event_stage.labels("checked").observe(arrival.waited_s())
        try:
            entries = [
                self.log.submit(stamped, received_us, None if reason is None else f"{reason.field}: {reason.reason}")
                for stamped, reason in zip(events, why, strict=True)
            ]
        except LogFull as error:
            raise unavailable(f"events cannot be logged ({error})") from None
        if not await self.log.written(entries):
            raise unavailable("events cannot be logged (the disk is late)")
        self.metrics.event_stage.labels("logged").observe(arrival.waited_s())
        appends, shortened = [], set[str]()
        for stamped, reason, entry in zip(events, why, entries, strict=True):
            user_id, event_id = stamped.event.user_id, stamped.event.event_id
            if reason is not None:
                appends.append(Append(user_id, event_id, b"", b""))
                continue
            line, whole = line_of(stamped, entry.segment.stem), entry.content.rstrip(b"\n")
            append = Append(user_id, event_id, line, whole)
            user = users[user_id]
            if isinstance(user, PackedUser) and len(user.tail) > SHORTENED_BYTES and user_id not in shortened:
                shortened.add(user_id)
                append = replace(append, old=user.tail, kept=self.folding.unread(user))
            appends.append(append)
        try:
            new = await self.tails.append(appends, self.settings.events.wait_ms / 1e3)
        except (FeatureStoreError, TimeoutError) as error:
            raise unavailable(f"the online store does not take events ({error or 'it is late'})") from None
        self.metrics.event_stage.labels("stored").observe(arrival.waited_s())
        return new


def _label(field: str) -> str:
    """A field as a label: one of the contract, because a sender may make up any number of others."""
    return field if field in Event.model_fields else "other"


def _named(wrong: Sequence[tuple[int, list[Wrong]]], *, is_batch: bool) -> list[Problem]:
    """The fields that are wrong, as a refusal names them."""
    problems = [
        Problem(field=f"events.{index}.{one.field}" if is_batch else one.field, problem=one.reason)
        for index, found in wrong
        for one in found
    ]
    return problems[:MAX_PROBLEMS]
