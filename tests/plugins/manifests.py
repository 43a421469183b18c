"""Manifests of any size: the project's with columns, and with names and texts that want to do harm, added."""

import copy
import json
from pathlib import Path
from typing import Any

VIEW = "model.skewless.user_session_features"
VARIETY = "model.skewless.user_variety_features"
CHURN = "exposure.skewless.churn"

MEASURES = ("sessions", "minutes", "late_sessions", "searches", "orders", "refunds", "errors", "invitations", "logins")
SPANS = (1, 2, 3, 5, 10, 14, 21, 45, 60, 75, 90)
FLAG, CATEGORY = "has_open_ticket", "price_plan"

HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "'; drop table monitoring.drift_reports; --",
    "{{ 7 * 7 }}${7*7}<%= 7*7 %>",
    "javascript:alert(1)",
    "\u202egnp.exe\u2066 \u200f\u05e9\u05dc\u05d5\u05dd\u200e \u200b\ufeff\U0001f469\u200d\U0001f4bb e\u0301",
    '=HYPERLINK("http://example.com","click")',
    "]]>--></title></style></script><svg onload=alert(1)>",
    "a\x01b\tc\nd\r\ne",
    "../../../../etc/passwd%00%2e%2e%2f",
    "W" * 10_000,
)


def feature_names(count: int) -> list[str]:
    """Names of so many features beside the project's own; the last two are a flag and a category."""
    names = [f"{measure}_last_{days}_days" for days in SPANS for measure in MEASURES]
    names += [f"{name}_of_{number}" for number in range(2, 2 + count // len(names)) for name in names]
    return [*names[: max(count - 2, 0)], FLAG, CATEGORY][:count]


def manifest_with(features: int, source: Path, target: Path, *, hostile: bool = False) -> Path:
    """Writes a manifest in which user_session_features has so many features; gives its path.

    Args:
        source: the project's own.
        hostile: its texts and the names of an additional view's features are HOSTILE; a model `hostile` reads it.
    """
    manifest = json.loads(source.read_text())
    columns = manifest["nodes"][VIEW]["columns"]
    own = sum(bool(column["config"]["meta"].get("feature")) for column in columns.values())
    for name in feature_names(max(features - own, 0)):
        columns[name] = _column(columns["session_count"], name)
    if hostile:
        _add_hostile(manifest)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(manifest))
    return target


def _column(like: dict[str, Any], name: str, description: str | None = None) -> dict[str, Any]:
    types = {FLAG: "boolean", CATEGORY: "text"}
    sentence = f"{name.replace('_', ' ').capitalize()}." if description is None else description
    column = copy.deepcopy(like) | {"name": name, "description": sentence, "data_type": types.get(name, "bigint")}
    return column | {"meta": {"feature": True}, "config": {"meta": {"feature": True}, "tags": []}}


def _add_hostile(manifest: dict[str, Any]) -> None:
    view = copy.deepcopy(manifest["nodes"][VARIETY])
    view |= {"unique_id": "model.skewless.hostile", "name": "hostile_features", "alias": "hostile_features"}
    keys = {name: column for name, column in view["columns"].items() if not column["config"]["meta"].get("feature")}
    like = view["columns"]["event_type_count"]
    features = {text: _column(like, text, text) for text in HOSTILE}
    view |= {"description": " ".join(HOSTILE[:-1]), "columns": keys | features}
    retention = manifest["nodes"][VIEW]["config"]["meta"]["retention"]  # labels mature within it
    view["config"]["meta"] |= {"owner": HOSTILE[1], "retention": retention}
    manifest["nodes"][view["unique_id"]] = view
    model = copy.deepcopy(manifest["exposures"][CHURN])
    model |= {"unique_id": "exposure.skewless.hostile", "name": "hostile", "description": " ".join(HOSTILE[:-1])}
    model["owner"] = {"name": HOSTILE[0], "email": HOSTILE[1]}
    meta = model["config"]["meta"] | {"feature_view": "hostile_features", "population": "true"}
    meta["training"] = meta["training"] | {"recency_feature": HOSTILE[0]}
    meta["monitoring"] = {"segments": {"frequent": f"'{HOSTILE[0]}' = ''"}}
    model["config"]["meta"] = meta
    manifest["exposures"][model["unique_id"]] = model
