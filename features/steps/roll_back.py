"""Rolling back: a ledger row that points at an earlier publication."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from features import ledger, metrics, warehouse
from features.contract import Contract, FeatureView
from features.errors import SkewlessError
from features.partition import format_key

log = logging.getLogger(__name__)


def roll_back(views: Sequence[FeatureView], as_of: datetime, because: str | None = None) -> list[dict[str, Any]]:
    """Makes an earlier publication of each view the live one again: of all of them, or of none.

    It holds until the next publication: pause materialize_features while you mend what was wrong.

    Args:
        because: why, kept in the ledger.

    Returns:
        for each view its name, and as_of, feature_version and row_count of what is live now.

    Raises:
        SkewlessError: when that as_of was never published, or its rows were thinned out.
    """
    with warehouse.connect() as connection:
        rolled_back = [_roll_back(connection, view, as_of, because) for view in views]
    for view, facts in zip(views, rolled_back, strict=True):
        metrics.went_live(view, facts["row_count"], as_of, datetime.now(UTC))
    return rolled_back


def views_published_at(contract: Contract, as_of: datetime, name: str | None = None) -> list[FeatureView]:
    """The feature view of that name, or all that were ever published at as_of.

    Raises:
        SkewlessError: when there is none.
    """
    if name:
        return [contract.feature_view(name)]
    with warehouse.connect() as connection:
        found = [view for view in contract.feature_views.values() if ledger.last_of(connection, view, as_of)]
    if not found:
        raise SkewlessError(
            f"No feature view was ever published at {format_key(as_of)}; serving.publications lists what was."
        )
    return found


def _roll_back(
    connection: warehouse.Connection, view: FeatureView, as_of: datetime, because: str | None
) -> dict[str, Any]:
    ledger.one_writer_at_a_time(connection, view)
    earlier = ledger.last_of(connection, view, as_of)
    if earlier is None:
        instants = ", ".join(map(format_key, ledger.published_instants(connection, view)))
        raise SkewlessError(
            f"{view.name} was never published at {format_key(as_of)}. Published last: {instants or 'nothing'}."
        )
    version = earlier.feature_version
    stored = ledger.snapshot(connection, view, as_of, version)
    if stored.row_count < earlier.row_count:
        raise SkewlessError(
            f"{'.'.join(view.relation)} holds {stored.row_count:,} of the {earlier.row_count:,} rows of definition "
            f"{version} that were published at {format_key(as_of)}: the others were thinned out. Run "
            "materialize_features with that partition key to compute them again, then roll back."
        )
    live = ledger.live(connection, view)
    again = replace(stored, events_loaded_through=earlier.events_loaded_through)
    publication = ledger.replace_live(connection, view, again)
    _forget_what_was_written_since(connection, view, as_of)
    ledger.go_live(connection, live, publication, note=f"rollback: {because}" if because else "rollback")
    log.info("Rolled %s back to %s: %s rows of definition %s.", view.name, as_of, f"{stored.row_count:,}", version)
    return {
        "view": view.name,
        "as_of": as_of.isoformat(),
        "feature_version": version,
        "row_count": stored.row_count,
    }


def _forget_what_was_written_since(connection: warehouse.Connection, view: FeatureView, as_of: datetime) -> None:
    # Rows that services wrote know more than the snapshot that returns, so readers would prefer them to it; they may
    # have come from what the rollback undoes.
    connection.execute(
        "delete from serving.written_features where feature_view = %s and as_of > %s", [view.name, as_of]
    )
