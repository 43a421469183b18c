"""Summarising the inference log by the hour: how much a model was asked, what it said, how fast, on what rows."""

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from features import warehouse
from features.contract import Model
from features.served_parity import logged_features

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
# MLflow's names; services are whom a model serves, and batch scoring has a folder of its own.
FOLDERS = {"online": "serving", "batch": "serving/batch"}
# What a column may have in its name, and a metric of MLflow may not.
NO_METRIC_NAME = re.compile(r"[^\w.\- ]")


def summarise_inference(model: Model, as_of: datetime) -> dict[str, Any]:
    """Writes monitoring.inference_hours of the hour that ends at as_of, and its aggregates to MLflow.

    The hour before is summarised again, because a service may write its requests late. MLflow gets the hours that are
    new or have changed since they were written, so that doing it again adds no point.

    Returns:
        as_of, and for each hour that is new or has changed its hour, model_version, kind, logged rows and requests.
    """
    parameters = {
        "model_name": model.name,
        "hours": [as_of - HOUR, as_of],
        "features": [feature.name for feature in logged_features(model.feature_view)],
    }
    with warehouse.connect() as connection:
        changed = connection.execute(SUMMARISE, parameters).fetchall()
        # Before the transaction ends: what MLflow could not take is still new when the task is tried again. Points that
        # it has already, it does not write twice.
        _log_served(model, changed)
    for row in changed:
        log.info(
            "%s v%s, %s, hour to %s: about %s requests, %s of them logged.",
            model.name, row["model_version"], row["kind"], row["hour"], f"{row['requests']:,.0f}", f"{row['logged']:,}",
        )  # fmt: skip
    if not changed:
        log.info("%s: nothing new in the log of the two hours to %s.", model.name, as_of)
    facts = ("model_version", "kind", "logged", "requests")
    hours = [{"hour": row["hour"].isoformat(), **{name: row[name] for name in facts}} for row in changed]
    return {"as_of": as_of.isoformat(), "hours": hours}


def _log_served(model: Model, changed: list[dict[str, Any]]) -> None:
    if not changed:
        return
    from features import tracking  # takes seconds to import, which an hour without news is spared

    for row in changed:
        tracking.log_served(model, row["model_version"], row["hour"], dict(_metrics(row)))


def _metrics(row: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """The hour's numbers by MLflow's names."""
    folder = FOLDERS[row["kind"]]
    yield f"{folder}/requests", row["requests"]
    yield f"{folder}/logged", row["logged"]
    for name in ("score", "confidence"):
        yield f"{folder}/{name}_mean", row[f"{name}_mean"]
        for share, value in row[f"{name}_quantiles"].items():
            yield f"{folder}/{name}_{_percentile(share)}", value
    for share, value in row["latency_quantiles_ms"].items():
        yield f"{folder}/latency_{_percentile(share)}_ms", value
    for feature, share in row["missing"].items():
        yield f"{folder}/missing/{NO_METRIC_NAME.sub('_', feature)}", share


def _percentile(share: str) -> str:
    """The name of a quantile.

    >>> _percentile("0.05"), _percentile("0.5")
    ('p05', 'p50')
    """
    return f"p{round(100 * float(share)):02}"


# Each logged request stands for 1 / inclusion_probability requests. A quantile is the least value at or below which
# that share of the requests lies: the inverse of the weighted distribution function, numpy's `inverted_cdf`. Values
# that are not finite have no place in a mean. Sums are in order, so that the same rows give the same bits.
SUMMARISE = """
with

logged as materialized (

    select
        log.model_version,
        log.kind,
        hours.hour,
        log.request_id,
        log.features,
        log.prediction,
        log.confidence,
        log.latency_ms,
        1 / log.inclusion_probability as weight
    from unnest(%(hours)s::timestamptz[]) as hours (hour)
    inner join monitoring.inference_log as log
        on log.logged_at > hours.hour - interval '1 hour' and log.logged_at <= hours.hour
    where log.model_name = %(model_name)s

),

volumes as (

    select model_version, kind, hour, count(*) as logged, sum(weight order by request_id) as requests
    from logged
    group by model_version, kind, hour

),

measured as (

    select
        logged.*,
        measure.name,
        measure.value,
        sum(logged.weight) over ascending as reached,
        sum(logged.weight) over (
            ascending rows between unbounded preceding and unbounded following
        ) as total
    from logged
    cross join lateral (
        values ('score', logged.prediction), ('confidence', logged.confidence), ('latency', logged.latency_ms)
    ) as measure (name, value)
    where measure.value > '-infinity' and measure.value < 'infinity'  -- NaN is above infinity
    window ascending as (
        partition by logged.model_version, logged.kind, logged.hour, measure.name
        order by measure.value, logged.request_id
    )

),

means as (

    select
        model_version,
        kind,
        hour,
        name,
        sum(value * weight order by request_id) / sum(weight order by request_id) as mean
    from measured
    group by model_version, kind, hour, name

),

wanted_quantiles (name, share) as (

    values
        ('score', '0.05'), ('score', '0.25'), ('score', '0.5'), ('score', '0.75'), ('score', '0.95'),
        ('confidence', '0.05'), ('confidence', '0.25'), ('confidence', '0.5'), ('confidence', '0.75'),
        ('confidence', '0.95'),
        ('latency', '0.5'), ('latency', '0.95'), ('latency', '0.99')

),

found_quantiles as (

    -- A sum that should be just the share may be off by its rounding.
    select model_version, kind, hour, name, share, min(value) as value
    from measured
    inner join wanted_quantiles using (name)
    where reached >= share::double precision * total * (1 - 1e-12)
    group by model_version, kind, hour, name, share

),

quantiles as (

    -- Every hour has every quantile; null where there is no value.
    select model_version, kind, hour, name, jsonb_object_agg(share, value) as quantiles
    from volumes
    cross join wanted_quantiles
    left join found_quantiles using (model_version, kind, hour, name, share)
    group by model_version, kind, hour, name

),

distributions as (

    select
        model_version,
        kind,
        hour,
        max(means.mean) filter (where name = 'score') as score_mean,
        max(means.mean) filter (where name = 'confidence') as confidence_mean,
        jsonb_agg(quantiles.quantiles) filter (where name = 'score') -> 0 as score_quantiles,
        jsonb_agg(quantiles.quantiles) filter (where name = 'confidence') -> 0 as confidence_quantiles,
        jsonb_agg(quantiles.quantiles) filter (where name = 'latency') -> 0 as latency_quantiles_ms
    from quantiles
    left join means using (model_version, kind, hour, name)
    group by model_version, kind, hour

),

absent as (

    select
        logged.model_version,
        logged.kind,
        logged.hour,
        feature.name,
        coalesce(sum(logged.weight order by logged.request_id) filter (
            where logged.features ->> feature.name is null
        ), 0) as weight
    from logged
    cross join unnest(%(features)s::text[]) as feature (name)
    group by logged.model_version, logged.kind, logged.hour, feature.name

),

missing as (

    select model_version, kind, hour, jsonb_object_agg(absent.name, absent.weight / volumes.requests) as missing
    from absent
    inner join volumes using (model_version, kind, hour)
    group by model_version, kind, hour

)

insert into monitoring.inference_hours as held (
    model_name, model_version, kind, hour, logged, requests, score_mean, score_quantiles, confidence_mean,
    confidence_quantiles, latency_quantiles_ms, missing
)
select
    %(model_name)s,
    model_version,
    kind,
    hour,
    volumes.logged,
    volumes.requests,
    distributions.score_mean,
    distributions.score_quantiles,
    distributions.confidence_mean,
    distributions.confidence_quantiles,
    distributions.latency_quantiles_ms,
    coalesce(missing.missing, '{}')
from volumes
inner join distributions using (model_version, kind, hour)
left join missing using (model_version, kind, hour)
on conflict (model_name, model_version, kind, hour) do update set
    logged = excluded.logged,
    requests = excluded.requests,
    score_mean = excluded.score_mean,
    score_quantiles = excluded.score_quantiles,
    confidence_mean = excluded.confidence_mean,
    confidence_quantiles = excluded.confidence_quantiles,
    latency_quantiles_ms = excluded.latency_quantiles_ms,
    missing = excluded.missing,
    summarised_at = now()
-- What stays as it was is not returned, and so does not reach MLflow again.
where
    (
        held.logged, held.requests, held.score_mean, held.score_quantiles, held.confidence_mean,
        held.confidence_quantiles, held.latency_quantiles_ms, held.missing
    ) is distinct from (
        excluded.logged, excluded.requests, excluded.score_mean, excluded.score_quantiles, excluded.confidence_mean,
        excluded.confidence_quantiles, excluded.latency_quantiles_ms, excluded.missing
    )
returning *
"""
