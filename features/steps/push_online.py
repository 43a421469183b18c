"""Pushing online: what is live in the ledger goes to Redis, when there is one."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from features import settings
from features.contract import FeatureView
from features.serving.push import push

log = logging.getLogger(__name__)


def push_online(views: Sequence[FeatureView], *, take_over: bool = False) -> list[dict[str, Any]]:
    """Pushes the live publication of each view that something serves.

    Args:
        take_over: also replace what Redis holds of another warehouse, or of a later publication than the ledger's.

    Returns:
        what `push` says of each view; nothing without REDIS_URL: then readers use PostgreSQL.

    Raises:
        NotPushed: when Redis does not take one.
    """
    url = os.environ.get("REDIS_URL")
    if not url:
        log.info("REDIS_URL is not set: services read features from PostgreSQL.")
        return []
    namespace = settings.online_namespace()
    return [push(view, url, namespace, take_over=take_over) for view in views if view.serving]
