"""Going back to an earlier champion, by hand."""

import logging
from typing import Any

from features import champions, ledger, tracking, warehouse
from features.champions import Reign, succession
from features.contract import Model
from features.errors import SkewlessError

log = logging.getLogger(__name__)


def roll_back_model(
    model: Model, number: str | None = None, because: str | None = None, dag_run_id: str | None = None
) -> dict[str, Any]:
    """Makes an earlier version the champion again.

    Args:
        number: that version; by default the champion before this one.
        because: why; kept in the ledger.
        dag_run_id: of the run that asks; asking again does not go back further.

    Returns:
        version, and which one it replaced.

    Raises:
        SkewlessError: when there is none to go back to, it never was champion, or it does not know the features.
    """
    champion = tracking.champion(model)
    if champion is None:
        raise SkewlessError(f"{model.name} has no champion, so there is nothing to go back from.")
    with warehouse.connect() as connection:
        done = champions.of_run(connection, model, dag_run_id) if dag_run_id else None
        target = _target(champions.history(connection, model), model, champion.number, done or number)
        current = ledger.current_version(connection, model.feature_view)
        if target.feature_version != current:
            raise SkewlessError(
                f"{model.name} v{target.version} was trained on another definition of {model.feature_view.name}, "
                f"{target.feature_version}; it is {current} now, and v{target.version} cannot score it."
            )
        reign = Reign(target.version, target.feature_version, "rollback")
        champions.record(connection, model, reign, champion.number, because or "rolled back by hand", dag_run_id)
        # Before the ledger commits: a registry that does not answer leaves both as they were.
        tracking.promote(model, target.version)
    log.info("%s v%s is champion again, in place of v%s.", model.name, target.version, champion.number)
    return {"version": target.version, "replaced": champion.number}


def _target(reigns: list[Reign], model: Model, champion: str, number: str | None) -> Reign:
    if number is not None:
        found = [reign for reign in reigns if reign.version == number]
        if not found:
            known = ", ".join(dict.fromkeys(f"v{reign.version}" for reign in reigns)) or "none"
            raise SkewlessError(f"v{number} never was champion of {model.name}; these were: {known}.")
        return found[-1]
    line = [reign for reign in succession(reigns) if reign.version != champion]
    if not line:
        raise SkewlessError(f"There is no earlier champion of {model.name}; v{champion} is the first. Nothing changed.")
    return line[-1]
