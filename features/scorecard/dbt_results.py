"""What dbt did last, by monitoring.dbt_results."""

from dataclasses import dataclass
from datetime import datetime

from features.scorecard.subject import Row, Subject, listed

# Of each node the last of the runs of one as_of: a task that was cleared ran again.
NEWEST = """
select distinct on (unique_id) name, column_name, status, failures, seconds, as_of
from monitoring.dbt_results
where
    dbt_model = %(dbt_model)s and resource_type = %(resource_type)s
    and as_of = (
        select max(as_of) from monitoring.dbt_results
        where dbt_model = %(dbt_model)s and resource_type = %(resource_type)s and as_of <= %(as_of)s
    )
order by unique_id, ran_at desc
"""


@dataclass(frozen=True)
class DbtRun:
    """How the nodes of one kind of a dbt model ended when they ran last.

    Attributes:
        as_of: the instant whose knowledge the run computed.
    """

    dbt_model: str
    as_of: datetime
    nodes: list[Row]

    @property
    def not_passed(self) -> list[str]:
        """Each that did not pass, with how it ended."""
        return [
            f"{node['name']} ({node['status']})" for node in self.nodes if node["status"] not in {"pass", "success"}
        ]

    @property
    def sentence(self) -> str:
        """How they ended, to be read after what they are."""
        failed = self.not_passed
        of = f"{len(self.nodes)} of {self.dbt_model} at {self.as_of:%Y-%m-%d %H:%M}Z"
        return f"{of}: {listed(failed)} did not pass" if failed else f"{of} passed"


def newest(subject: Subject, dbt_model: str, resource_type: str) -> DbtRun | None:
    """The nodes of a kind that ran last at or before as_of; None when none did."""
    nodes = subject.rows(NEWEST, dbt_model=dbt_model, resource_type=resource_type)
    return DbtRun(dbt_model, nodes[0]["as_of"], nodes) if nodes else None
