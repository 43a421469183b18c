"""The ledger `monitoring.champions`: which version is in production since when, by promotion or by rollback.

Serving reads the registry's alias; this says who was there before, so that one can go back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from features import warehouse
from features.contract import Model

Kind = Literal["promotion", "rollback"]


@dataclass(frozen=True)
class Reign:
    """A row of the ledger: a version became champion."""

    version: str
    feature_version: str
    kind: Kind


def record(
    connection: warehouse.Connection,
    model: Model,
    reign: Reign,
    replaced: str | None,
    because: str,
    dag_run_id: str | None = None,
) -> None:
    """Enters a new champion; one that is champion already changes nothing."""
    reigns = history(connection, model)
    if reigns and reigns[-1].version == reign.version:
        return
    row = {
        "model_name": model.name,
        "model_version": reign.version,
        "feature_version": reign.feature_version,
        "kind": reign.kind,
        "replaced_version": replaced,
        "because": because,
        "dag_run_id": dag_run_id,
    }
    warehouse.insert(connection, "monitoring.champions", row)


def history(connection: warehouse.Connection, model: Model) -> list[Reign]:
    """Every champion there was, oldest first."""
    rows = connection.execute(
        "select model_version, feature_version, kind from monitoring.champions where model_name = %s"
        " order by champion_id",
        [model.name],
    )
    return [Reign(row["model_version"], row["feature_version"], row["kind"]) for row in rows]


def of_run(connection: warehouse.Connection, model: Model, dag_run_id: str) -> str | None:
    """The version that a Dag run has made champion, if it has."""
    row = connection.execute(
        "select model_version from monitoring.champions where model_name = %s and dag_run_id = %s",
        [model.name, dag_run_id],
    ).fetchone()
    return str(row["model_version"]) if row else None


def succession(reigns: Iterable[Reign]) -> list[Reign]:
    """Those that one can go back to, and last the champion: a rollback undoes every promotion since.

    Promotions of 1, 2, 3 and a rollback to 2 leave [1, 2]: going back once more means 1, not 3.
    """
    line: list[Reign] = []
    for reign in reigns:
        known = [one.version for one in line]
        if reign.kind == "rollback" and reign.version in known:
            line = line[: known.index(reign.version) + 1]
        elif known[-1:] != [reign.version]:
            line.append(reign)
    return line
