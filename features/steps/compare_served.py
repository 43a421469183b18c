"""Comparing what a model really saw with what its features' definition gives."""

import logging
from datetime import datetime
from typing import Any

from features import ledger, warehouse
from features.contract import Model
from features.served_parity import BEYOND_SAMPLE, LARGEST_SAMPLE, ServedAudit, audit_log, record_audit

log = logging.getLogger(__name__)


def compare_served(model: Model, as_of: datetime) -> dict[str, Any]:
    """Recomputes the features of the hour's logged requests and keeps what differs in monitoring.parity_audits.

    Comparing an hour again replaces what was found. Nothing is written when no request could be compared.

    Returns:
        as_of, feature_version, publication_id, rows_compared, skipped (rows by reason), and of the features that differ
        their mismatches and causes.

    Raises:
        SkewlessError: when dbt has never built the feature view.
    """
    with warehouse.connect() as connection:
        version = ledger.current_version(connection, model.feature_view)
        audit = audit_log(connection, model, as_of, version)
        if audit.rows_compared:
            record_audit(connection, model, audit)
    _tell(model, audit)
    differing = [finding for finding in audit.findings if finding.cause]
    return {
        "as_of": as_of.isoformat(),
        "feature_version": version,
        "publication_id": audit.publication_id,
        "rows_compared": audit.rows_compared,
        "skipped": dict(audit.skipped),
        "mismatches": {finding.feature: finding.mismatches for finding in differing},
        "causes": {finding.feature: str(finding.cause) for finding in differing},
    }


def _tell(model: Model, audit: ServedAudit) -> None:
    at = f"{audit.as_of:%Y-%m-%d %H:%M}Z"
    for reason, count in audit.skipped.items():
        log.info("%s at %s: %s logged rows are not compared: %s.", model.name, at, f"{count:,}", reason)
    if BEYOND_SAMPLE in audit.skipped:
        log.info("At most %s rows of an hour are compared, chosen by their request_id.", f"{LARGEST_SAMPLE:,}")
    if not audit.rows_compared:
        log.info("%s at %s: no logged row could be compared, so nothing is recorded.", model.name, at)
        return
    for sentence in audit.sentences:
        log.warning("%s saw other features than their definition gives. %s", model.name, sentence)
    if not audit.sentences:
        log.info("%s at %s: all %s logged rows are as recomputed.", model.name, at, f"{audit.rows_compared:,}")
