"""What MLflow's own tables say: where the models' files are, and which version is champion.

Read and written in the database itself, since while it is restored no server of MLflow's runs.
"""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psycopg import sql

from features import warehouse

LOCATIONS = """
select artifact_location as location from experiments
where exists (select 1 from runs where runs.experiment_id = experiments.experiment_id)
union
select source from model_versions where source not like 'models:%' and source not like 'runs:%'
order by 1
"""
# Every column that names a place of files.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# What a tracking server keeps wherever it was told to.
BY_THE_SERVER = "mlflow-artifacts"


def is_prepared(connection: warehouse.Connection) -> bool:
    """Whether MLflow has made its tables."""
    return warehouse.has_relation(connection, "registered_model_aliases")


def locations(connection: warehouse.Connection) -> list[str]:
    """Where experiments that have runs, and registered models, keep their files, as URIs or paths."""
    return [row["location"] for row in connection.execute(LOCATIONS)]


def outside(locations: Iterable[str], folder: Path) -> list[str]:
    """Those of the locations that are not in a folder, nor a tracking server's own.

    >>> outside(["file:///a/b/1", "/a/b/2", "mlflow-artifacts:/3", "s3://models/4", "/a/bc/5"], Path("/a/b"))
    ['s3://models/4', '/a/bc/5']
    """

    def is_inside(location: str) -> bool:
        parts = urlsplit(location)
        if parts.scheme == BY_THE_SERVER:
            return True
        return parts.scheme in {"", "file"} and Path(unquote(parts.path)).is_relative_to(folder)

    return [location for location in locations if not is_inside(location)]


def move(connection: warehouse.Connection, before: Path, after: Path) -> None:
    """Says that the files in one folder are in another now."""
    for table, column in PLACES:
        statement = sql.SQL(
            "update {table} set {column} = %(after)s || substr({column}, length(%(before)s) + 1)"
            " where {column} = %(before)s or starts_with({column}, %(before)s || '/')"
        ).format(table=sql.Identifier(table), column=sql.Identifier(column))
        for old, new in ((before.as_uri(), after.as_uri()), (str(before), str(after))):
            connection.execute(statement, {"before": old, "after": new})


def crown(connection: warehouse.Connection, champions: dict[str, str]) -> list[str]:
    """Makes the alias `champion` agree with the warehouse's ledger.

    Args:
        champions: the version of each model, as monitoring.champions says.

    Returns:
        what was changed or cannot be, as sentences.
    """
    from features.tracking import CHAMPION  # it brings MLflow with it, which a backup can do without

    said = []
    for model, version in champions.items():
        found = connection.execute(
            "select present.version as alias from model_versions as known"
            " left join registered_model_aliases as present"
            " on present.workspace = known.workspace and present.name = known.name and present.alias = %s"
            " where known.name = %s and known.version = %s",
            [CHAMPION, model, int(version)],
        ).fetchone()
        if found is None:
            said.append(f"MLflow does not know {model} v{version}, the champion that monitoring.champions names.")
        elif str(found["alias"]) != version:
            connection.execute(
                "insert into registered_model_aliases (workspace, name, alias, version)"
                " select workspace, name, %s, version from model_versions where name = %s and version = %s"
                " on conflict (workspace, name, alias) do update set version = excluded.version",
                [CHAMPION, model, int(version)],
            )
            before = f"v{found['alias']}" if found["alias"] else "none"
            said.append(f"{model} v{version} is champion in MLflow again, as in monitoring.champions; it was {before}.")
    return said
