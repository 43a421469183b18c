"""An example of a service: it reads features, asks the champion, and logs what it was asked and said.

    uvicorn features.serving.service:app

SKEWLESS_MODEL names the model (churn), SKEWLESS_NOW an instant to serve instead of now, for data of the past.
"""

import gc
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from prometheus_client import REGISTRY, make_asgi_app

from features import settings
from features.contract import read_contract
from features.errors import SkewlessError
from features.partition import parse_as_of
from features.serving.champion import load_champion
from features.serving.store import FeatureStore
from features.serving.tracker import ProductionInferenceTracker


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[None]:
    """Loads the champion, and stops with everything written. Restart the service when there is a new champion."""
    model = read_contract(settings.MANIFEST).model(os.environ.get("SKEWLESS_MODEL", "churn"))
    champion = load_champion(model)
    if champion is None:
        raise SkewlessError(f"{model.name} has no champion yet: let {model.name}_training run first.")
    app.state.champion = champion
    app.state.store = FeatureStore.for_model(model, champion.version.feature_version, clock=now)
    app.state.tracker = ProductionInferenceTracker.for_model(model, champion.version)
    gc.freeze()  # what was imported stays: to look through it again and again made one read in a thousand slow
    metrics = app.state.tracker.collector()
    REGISTRY.register(metrics)
    yield
    REGISTRY.unregister(metrics)
    app.state.tracker.close()
    app.state.store.close()


app = FastAPI(title="Skewless example service", lifespan=serving)
app.mount("/metrics", make_asgi_app())


def now() -> datetime:
    """The instant that is served."""
    fixed = os.environ.get("SKEWLESS_NOW")
    return parse_as_of(fixed) if fixed else datetime.now(UTC)


@app.get("/predict/{user_id}")
def predict(user_id: str, request: Request, x_request_id: str | None = Header(None)) -> dict[str, Any]:
    """The probability for a user, by which model, on which features, known when."""
    state, request_id = request.app.state, x_request_id or str(uuid.uuid4())
    row = state.store.read_user_features_or_compute(user_id)
    with state.tracker.track_inference(
        request_id=request_id,
        entity_id=user_id,
        features=row.features,
        as_of=row.as_of,
        served_from=row.served_from,
        logged_at=now(),
    ) as inference:
        probability = state.champion.score_one(row.features)
        inference.log_prediction(probability)
    return {
        "request_id": request_id,
        "probability": probability,
        "model_version": state.champion.version.number,
        "as_of": row.as_of,
        "age_seconds": row.age.total_seconds(),
        "served_from": row.served_from,
    }


@app.get("/health")
def health(request: Request) -> dict[str, Any]:
    """Whether features of the champion's definition are live, and how fresh they are; 503 when not."""
    live = request.app.state.store.read_live()
    version = request.app.state.champion.version.number
    return {"model_version": version, "as_of": live.as_of, "is_stale": now() >= live.expires_at}


@app.exception_handler(SkewlessError)
def refuse(request: Request, error: SkewlessError) -> JSONResponse:
    """What cannot be served, and what to do about it."""
    return JSONResponse({"detail": str(error)}, status_code=503)
