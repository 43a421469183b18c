"""Where things are. All pages are in one folder, so that links are relative and work wherever Airflow is served."""

from urllib.parse import quote, urlencode

from feature_health.instants import key_of
from feature_health.reader import Reader


class Links:
    """Addresses of pages, with the clock that the reader chose; and of Airflow's own pages."""

    def __init__(self, reader: Reader) -> None:
        self._at = {} if reader.is_now else {"at": key_of(reader.at)}

    def to(self, page: str, **parameters: object) -> str:
        """A page; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        query = urlencode(given | self._at)
        return f"{page}?{query}" if query else page

    def feature(self, model: str, name: str) -> str:
        """What one feature of a model looks like now and before."""
        return self.to("feature", model=model, name=name)

    def dag_run(self, dag_id: str, run_id: str) -> str:
        """A run in Airflow's own pages."""
        return f"../dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"

    def dag(self, dag_id: str) -> str:
        """A Dag in Airflow's own pages."""
        return f"../dags/{quote(dag_id, safe='')}"
