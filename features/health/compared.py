"""What audits found: of a publication, or of an hour of what was served."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from features import warehouse


@dataclass(frozen=True)
class Finding:
    """A feature that differs, or `(entities)`, the set of them.

    Attributes:
        examples: keys of entities that differ, at most five; columns of a key are joined by a slash.
    """

    feature: str
    mismatches: int
    rows_compared: int
    cause: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """What an audit found.

    Attributes:
        cells_differing, cells_compared: over all features and the set of entities; None where nobody compared.
        accepted_because: why it was published in spite of that.
    """

    cells_differing: int | None = None
    cells_compared: int | None = None
    accepted_because: str | None = None
    findings: tuple[Finding, ...] = ()


def compared_of(connection: warehouse.Connection, publication_ids: Iterable[int]) -> dict[int, Compared]:
    """What the gate found of publications, by number; those that nobody compared are left out."""
    rows = connection.execute(
        f"""
        select publication_id, max(accepted_because) as accepted_because, {COUNTED}
        from monitoring.parity_audits
        where publication_id = any(%s) and source = 'publication'
        group by publication_id
        """,
        [list(publication_ids)],
    )
    return {row["publication_id"]: comparison(row) for row in rows}


COUNTED = """
    sum(mismatches)::bigint as cells_differing, sum(rows_compared)::bigint as cells_compared,
    jsonb_agg(
        jsonb_build_array(feature, mismatches, rows_compared, cause, example_keys) order by feature
    ) filter (where mismatches > 0) as findings
"""


def comparison(row: Mapping[str, Any]) -> Compared:
    """An audit of a row with COUNTED and accepted_because."""
    return Compared(
        cells_differing=row["cells_differing"],
        cells_compared=row["cells_compared"],
        accepted_because=row["accepted_because"],
        findings=tuple(
            Finding(feature, mismatches, rows, cause or "", tuple("/".join(map(str, key)) for key in examples))
            for feature, mismatches, rows, cause, examples in row["findings"] or ()
        ),
    )
