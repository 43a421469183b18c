"""What every number means, once: shown on hover and listed at the end of each page that uses it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """The heading of a number, and what it is."""

    heading: str
    meaning: str


DEFINITIONS: dict[str, Definition] = {
    "feature_view": Definition("Feature view", "The dbt model that defines a set of features, and their only definition."),
    "entity": Definition("Entity", "What the features describe: the key columns beside as_of."),
    "owner": Definition("Owner", "Whom to ask, as the YAML says."),
    "features": Definition("Features", "How many features it has."),
    "freshness": Definition(
        "Freshness",
        "fresh while the clock is before as_of + expires_after; stale after that, when readers are told so; unpublished "
        "before the first publication.",
    ),
    "as_of": Definition("As of", "The instant whose knowledge the rows hold: what had happened and arrived by then."),
    "as_of_age": Definition("Age", "From as_of to the clock above."),
    "published_at": Definition("Published", "Since when this snapshot has been live."),
    "expires_at": Definition("Expires", "as_of plus the view's expires_after: from then on readers treat it as stale."),
    "rows": Definition("Rows", "Entities in the live snapshot."),
    "tests": Definition("Tests", "dbt's tests of the view: failed and run, each as it ended last."),
    "parity": Definition(
        "Parity",
        "Cells of the live snapshot that differ from a recomputation by the definition that trains, and cells compared, "
        "bit for bit.",
    ),
    "worst_drift": Definition("Worst drift", "The worst status among its features at the newest drift reports."),
    "worst_feature": Definition("In", "The feature with that status."),
    "model": Definition("Model", "A dbt exposure of type ml: its Dags score, watch and retrain it."),
    "champion": Definition("Champion", "The version in production."),
    "age": Definition("Age", "The champion's age against what the policy allows: young, or due for retraining."),
    "age_days": Definition("Days old", "From the instant whose knowledge the champion was trained on to the clock above."),
    "max_age_days": Definition(
        "May become", "How old a champion may become: max_model_age of the YAML, or what the decay backtest derived."
    ),
    "outcome": Definition(
        "Last decision",
        "retrain; blocked: a trigger fired and a guard forbids it; hold: everything was judged and nothing fired; "
        "unknown: nothing fired, and something could not be judged.",
    ),
    "decided_as_of": Definition("Decided", "The instant that the newest decision is about."),
    "trigger": Definition("Trigger", "The most urgent reason for retraining that fired."),
    "metric": Definition("Metric", "What the model is judged by: `promotion.metric` of the YAML."),
    "holdout": Definition("At training", "The metric on label times that the champion had not seen when it was trained."),
    "now": Definition("Since training", "The metric on all labels that have matured since the champion was trained."),
    "now_interval": Definition(
        "Interval", "Confidence interval of that, by drawing entities again and again (bootstrap by entity)."
    ),
    "labels": Definition("Labels", "Matured labels that this rests on."),
    "incidents": Definition("Open incidents", "Incidents of the model that nobody and nothing has closed."),
    "incident_id": Definition("Incident", "Its number, as `skewless resolve-incident` takes it."),
    "severity": Definition("Severity", "warning, or critical: the effect's lower bound is beyond the critical floor."),
    "cause": Definition(
        "Probable cause", "What the pattern of the alarms looks like. genuine: none of the marks of a broken pipeline."
    ),
    "upstream": Definition("Delivered by", "The dbt model that what is wrong comes from."),
    "incident_features": Definition("Features", "Those that alarmed at any time, in order of appearance."),
    "opened_at": Definition("Opened", "as_of of the first alarm."),
    "last_alarm_at": Definition("Last alarm", "as_of of the newest one; a day without any closes the incident."),
    "blocks_retraining": Definition(
        "Blocks retraining", "A sick pipeline does, until it is mended or somebody calls the change genuine."
    ),
    "summary": Definition("What was seen", "Each feature's finding with its numbers."),
}

# What a word says about how things are. Colour never says it alone: the word does.
TONES = {
    "bad": frozenset({
        "stale", "unpublished", "critical", "missing_feature", "unexpected_feature", "error", "failed", "differs", "none",
    }),
    "warn": frozenset({"warning", "due", "blocked", "unknown", "insufficient_data", "baseline_missing", "open"}),
    "good": frozenset({"fresh", "ok", "young", "passed", "equal", "closed", "promoted"}),
    "news": frozenset({"retrain"}),
}  # fmt: skip


def tone(word: object) -> str:
    """good, warn, bad, news, or plain for a word that judges nothing."""
    return next((name for name, words in TONES.items() if str(word) in words), "plain")
