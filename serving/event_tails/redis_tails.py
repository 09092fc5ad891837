"""Tails in Redis: a field of the user's own hash, which one HMGET reads with the user's row.

Each event also goes into the stream `<project>:events`, from which other programs read what comes in at any gateway.
"""

from collections.abc import Sequence
from pathlib import Path

from recommender.datasets.time_units import DAY_S
from recommender.errors import FeatureStoreError
from recommender.events.places import TAIL_FIELD
from recommender.matching.packed_user import ServingSchema
from recommender.secrets import secret
from recommender.settings import Settings
from recommender.storage.home import Home
from serving.event_tails.append import Append
from serving.online_store.feast_format import entity_key
from serving.online_store.redis_pipeline import Pipeline

# The id is noted and the event appended by one step: whoever sends an event again after a kill finds both or neither.
APPEND = b"""
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[3]) then return 0 end
if ARGV[2] == '' then return 1 end
local tail = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[4] ~= '' and tail == ARGV[4] then tail = ARGV[5] end
redis.call('HSET', KEYS[1], ARGV[1], tail .. ARGV[2])
if ARGV[6] ~= '0' then redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'event', ARGV[7]) end
return 1
"""


class RedisTails:
    """Appends over one connection of the event loop."""

    def __init__(self, pipeline: Pipeline, schema_folder: Path, *, remember_days: int, stream_length: int) -> None:
        self._pipeline, self._schema_folder = pipeline, schema_folder
        self._seconds, self._stream_length = b"%d" % (remember_days * DAY_S), b"%d" % stream_length
        self._schema: ServingSchema | None = None

    @classmethod
    def of(cls, settings: Settings) -> "RedisTails":
        """The tails of these settings, which connect with the first event."""
        pipeline = Pipeline(settings.store.redis, secret("redis_password"), settings.events.wait_ms / 1e3)
        chosen = settings.events
        folder = Home.of(settings).feature_store.root
        return cls(pipeline, folder, remember_days=chosen.remember_days, stream_length=chosen.stream_length)

    async def append(self, appends: Sequence[Append], within_s: float) -> list[bool]:
        """Append events, and tell which ids are new.

        Raises:
            TimeoutError: Redis did not answer in time.
            FeatureStoreError: It cannot be reached or refuses; names host and port. Or nothing was materialised yet.
        """
        if self._schema is None:
            self._schema = ServingSchema.load(self._schema_folder)
        schema, project = self._schema, self._schema.project.encode()
        commands = [
            (
                *(b"EVAL", APPEND, b"3"),
                entity_key(schema.join_key, one.user_id) + project,
                project + b":event:" + one.event_id.encode(),
                project + b":events",
                *(TAIL_FIELD, one.line, self._seconds, one.old, one.kept, self._stream_length, one.whole),
            )
            for one in appends
        ]
        answers = await self._pipeline.ask(commands, within_s)
        if any(answer not in (0, 1) for answer in answers):
            raise FeatureStoreError("Redis answered something else to an event")
        return [answer == 1 for answer in answers]

    def close(self) -> None:
        """Close the connection."""
        self._pipeline.close()
