"""A container's health: `python -m features.deployment.healthy URL [COMPONENT]` ends with 0 when all is well.

Of Airflow's monitor it looks at one component, such as triggerer: what Airflow's own command for that tells after five
seconds of imports, this tells at once. Only the standard library is imported.
"""

import http.client
import json
import sys
from urllib.request import urlopen

TIMEOUT_SECONDS = 8


def problem(url: str, component: str | None = None) -> str | None:
    """What is wrong with what answers there, or None.

    Args:
        component: a key of the answer, whose `status` has to be healthy.
    """
    try:
        with urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own address
            said = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {error}"
    if component is None:
        return None
    status = json.loads(said).get(component, {}).get("status")
    return None if status == "healthy" else f"{component} is {status}"


if __name__ == "__main__":
    sys.exit(problem(*sys.argv[1:]))
