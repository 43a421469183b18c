"""A feature row as a reader gets it, and what a reader has to know about the publication that it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from features.contract import FeatureView
from features.errors import SkewlessError
from features.serving.inference_log import entity_text
from features.serving.json_values import storable

# One key column's value, or a tuple of them.
Entity = Any


class StoreUnavailable(SkewlessError):
    """Neither store answered, or the one that had to."""


class NothingPublished(SkewlessError):
    """The ledger has no live publication of the view."""


class FeatureVersionMismatch(SkewlessError):
    """What is live was computed by another definition than the reader was made for."""


class StaleFeatures(SkewlessError):
    """What is live is older than the view allows."""


@dataclass(frozen=True, slots=True)
class Live:
    """The live publication of a view.

    Attributes:
        expires_at: from when on its rows are stale.
    """

    publication_id: int
    as_of: datetime
    feature_version: str
    published_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredRow:
    """An entity's row in a store: of the snapshot, or written since.

    Attributes:
        served_from: redis, postgres, written (by a service) or computed.
    """

    as_of: datetime
    features: dict[str, Any]
    served_from: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a store has for some entities, in their order; None for those it does not know."""

    live: Live
    rows: Sequence[StoredRow | None]


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """An entity's features as they are served.

    Attributes:
        features: by name, in the order of the view's YAML.
        as_of: the instant whose knowledge they hold.
        age: how long ago that was when they were read.
        expires_at: from when on they are stale.
        served_from: redis, postgres, written (by a service) or computed (on demand).
    """

    entity: Entity
    features: dict[str, Any]
    as_of: datetime
    age: timedelta
    expires_at: datetime
    is_stale: bool
    feature_version: str
    served_from: str


def newest(snapshot: StoredRow | None, written: StoredRow | None) -> StoredRow | None:
    """The row that counts: the snapshot's, unless what was written knows more."""
    if snapshot is None or (written is not None and written.as_of > snapshot.as_of):
        return written
    return snapshot


def entity_id(view: FeatureView, entity: Entity) -> str:
    """An entity as text: its key, or a JSON array of its key columns, which no two composite keys share.

    Raises:
        SkewlessError: when it has not as many values as the view has key columns, one is missing, or no text.
    """
    return entity_text(key_values(view, entity))


def key_values(view: FeatureView, entity: Entity) -> tuple[Any, ...]:
    """An entity's values, one for each key column.

    Raises:
        SkewlessError: as `entity_id`.
    """
    values = tuple(entity) if isinstance(entity, tuple | list) else (entity,)
    if len(values) != len(view.entity) or any(value is None for value in values):
        raise SkewlessError(f"{entity!r} is no entity of {view.name}, whose key is ({', '.join(view.entity)}).")
    try:
        for value in values:
            if isinstance(value, str):
                storable(value)
    except ValueError as error:
        raise SkewlessError(f"{entity!r} is no entity of {view.name}: {error}.") from error
    return values


def as_served(entity: Entity, row: StoredRow, live: Live, at: datetime) -> FeatureRow:
    """A stored row as its reader gets it at an instant."""
    expires_at = row.as_of + (live.expires_at - live.as_of)
    return FeatureRow(
        entity,
        row.features,
        row.as_of,
        at - row.as_of,
        expires_at,
        at >= expires_at,
        live.feature_version,
        row.served_from,
    )


def refuse_version(view: FeatureView, wanted: str | None, live: str) -> None:
    """Raises FeatureVersionMismatch unless what is live is what the reader was made for."""
    if wanted is not None and wanted != live:
        raise FeatureVersionMismatch(
            f"{view.name} is live by definition {live}, and this reader was made for {wanted}: a model must not be "
            "given features that it was not trained on. Serve a version that was trained on what is live (Skewless "
            "retrains after a changed definition), or roll back. To change a definition without a gap, make it a dbt "
            "model version."
        )


def refuse_stale(view: FeatureView, stale: Sequence[FeatureRow]) -> None:
    """Raises StaleFeatures when any row is given."""
    if stale:
        oldest = max(stale, key=lambda row: row.age)
        others = f" and {len(stale) - 1:,} others are" if len(stale) > 1 else " is"
        raise StaleFeatures(
            f"{view.name} of {oldest.entity!r}{others} stale: {_in_hours(oldest.age)} old, and it expires after "
            f"{view.expires_after}. See whether materialize_features runs, or read with on_stale='flag'."
        )


def _in_hours(age: timedelta) -> str:
    return f"{age / timedelta(hours=1):,.1f} h"


def published(view: FeatureView, live: Live | None) -> Live:
    """The live publication.

    Raises:
        NothingPublished: without one.
    """
    if live is None:
        raise NothingPublished(f"Nothing of {view.name} is published yet: run materialize_features.")
    return live
