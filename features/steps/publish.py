"""Publishing: one inserted ledger row makes an as_of the live one, once the parity gate lets it pass."""

import logging
from datetime import UTC, datetime
from typing import Any

from features import ledger, metrics, parity, warehouse
from features.contract import FeatureView
from features.errors import SkewlessError
from features.ledger import Publication
from features.parity import Audit, Cause

log = logging.getLogger(__name__)


class GateClosed(SkewlessError):
    """What is served, or would be, is not what the definition gives; the last good snapshot stays live."""


def publish(view: FeatureView, as_of: datetime, accept_skew: str | None = None) -> dict[str, Any]:
    """Makes the view's rows at as_of the live snapshot.

    The gate recomputes two snapshots through the as-of function and compares every cell: the one that is live, and the
    new one as readers would see it. Publishing an as_of again changes nothing, and an older one, as in a backfill,
    never replaces a newer one.

    Args:
        accept_skew: why it is published although the gate finds differences; kept with the audit.

    Returns:
        as_of, feature_version, row_count and whether the as_of is live now.

    Raises:
        GateClosed: naming features, example entities and the probable cause.
        SkewlessError: when there are no rows at as_of.
    """
    audits: list[Audit] = []
    try:
        with warehouse.connect() as connection:
            facts = _publish(connection, view, as_of, accept_skew, audits)
            parity.record(connection, view, audits, accept_skew)
    except GateClosed:
        # Nothing was published; what was found is kept all the same.
        with warehouse.connect() as connection:
            parity.record(connection, view, audits, None)
        metrics.refused(view)
        raise
    if facts["is_live"]:
        metrics.went_live(view, facts["row_count"], as_of, datetime.now(UTC))
    return facts


def _publish(
    connection: warehouse.Connection, view: FeatureView, as_of: datetime, accept_skew: str | None, audits: list[Audit]
) -> dict[str, Any]:
    ledger.one_writer_at_a_time(connection, view)
    version = ledger.current_version(connection, view)
    snapshot = ledger.snapshot(connection, view, as_of, version)
    if not snapshot.row_count:
        raise SkewlessError(
            f"{'.'.join(view.relation)} has no row at {as_of:%Y-%m-%d %H:%M}Z of definition "
            f"{version}; clear the dbt tasks of this Dag run."
        )
    facts = {"as_of": as_of.isoformat(), "feature_version": version, "row_count": snapshot.row_count}
    live = ledger.live(connection, view)
    if live and (live.as_of, live.feature_version) == (as_of, version):
        log.info("%s at %s is live already.", view.name, as_of)
        return {**facts, "is_live": True}
    if live and live.as_of > as_of:
        log.info("%s at %s stays unpublished: %s is live and newer.", view.name, as_of, live.as_of)
        return {**facts, "is_live": False}

    if live:
        audits.append(parity.audit(connection, view, live, version))
    candidate = ledger.replace_live(connection, view, snapshot)
    audits.append(parity.audit(connection, view, candidate, version))
    problems = _problems(live, candidate, audits)
    if problems and not accept_skew:
        raise GateClosed(_why_closed(view, as_of, live, problems))
    for problem in problems:
        log.warning("Accepted (%s): %s", accept_skew, problem)
    ledger.go_live(connection, live, candidate, note=f"accepted skew: {accept_skew}" if problems else None)
    log.info("Published %s at %s: %s rows of definition %s.", view.name, as_of, f"{snapshot.row_count:,}", version)
    return {**facts, "is_live": True}


def _problems(live: Publication | None, candidate: Publication, audits: list[Audit]) -> list[str]:
    """Why the candidate must not go live, each as a sentence."""
    problems = []
    same_definition = live and live.feature_version == candidate.feature_version
    if live and same_definition and candidate.row_count < live.row_count:
        problems.append(
            f"It has {candidate.row_count:,} rows and what is live has {live.row_count:,}, "
            "yet an entity, once known, stays known."
        )
    for audit in audits:
        for finding in audit.findings:
            if finding.cause is Cause.NEW_DEFINITION:
                log.info("The new definition gives other values: %s", audit.sentence(finding))
            elif finding.cause:
                problems.append(audit.sentence(finding))
    return problems


def _why_closed(view: FeatureView, as_of: datetime, live: Publication | None, problems: list[str]) -> str:
    stays = f"{live.as_of:%Y-%m-%d %H:%M}Z stays live" if live else "nothing is live yet"
    return (
        f"{view.name} at {as_of:%Y-%m-%d %H:%M}Z is not published, {stays}: what is served is not what a recomputation "
        f"gives. {' '.join(problems)} See monitoring.parity_audits, and features.explain_{view.name} for the events "
        "behind a row. What was changed by hand (rows, a function, a view) can be restored; then clear this task. "
        "Backdated events cannot be unknown again: correct the ingested_at that their loader writes, and trigger "
        "materialize_features for this partition with accept_skew saying why it may be published."
    )
