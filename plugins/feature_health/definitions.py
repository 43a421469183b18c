"""What every number means, once: shown on hover and listed at the end of each page that uses it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """The heading of a number, and what it is."""

    heading: str
    meaning: str


DEFINITIONS: dict[str, Definition] = {
    "feature_view": Definition(
        "Feature view", "The dbt model that defines a set of features, and their only definition."
    ),
    "entity": Definition("Entity", "What the features describe: the key columns beside as_of."),
    "owner": Definition("Owner", "Whom to ask, as the YAML says."),
    "features": Definition("Features", "How many features it has."),
    "freshness": Definition(
        "Freshness",
        "fresh while the clock is before as_of + expires_after; stale after that, when readers are told so; "
        "unpublished "
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
        "Cells of the live snapshot that differ from a recomputation by the definition that trains, "
        "and cells compared, "
        "bit for bit.",
    ),
    "worst_drift": Definition("Worst drift", "The worst status among its features at the newest drift reports."),
    "worst_feature": Definition("In", "The feature with that status."),
    "model": Definition("Model", "A dbt exposure of type ml: its Dags score, watch and retrain it."),
    "champion": Definition("Champion", "The version in production."),
    "age": Definition("Age", "The champion's age against what the policy allows: young, or due for retraining."),
    "age_days": Definition(
        "Days old", "From the instant whose knowledge the champion was trained on to the clock above."
    ),
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
    "holdout": Definition(
        "At training", "The metric on label times that the champion had not seen when it was trained."
    ),
    "now": Definition(
        "Since training",
        "The metric on all labels that have matured since the champion was trained, with its confidence interval "
        "(bootstrap "
        "by entity).",
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
    # ML Test Score
    "test_title": Definition("Test", "One of the 28 of the ML Test Score (Breck et al. 2017)."),
    "test": Definition("Name", "How `make record-evidence TEST=` calls it."),
    "test_state": Definition(
        "State",
        "passed; failed: the newest evidence says so; expired: the evidence is too old to count; "
        "missing: there is none.",
    ),
    "points": Definition(
        "Points", "1 when a system runs the test again and again, 0.5 when it was done by hand, else 0."
    ),
    "how": Definition("How", "Whether the pipeline or CI saw it by itself, or somebody by hand."),
    "evidence": Definition("Evidence", "What was seen; or, where nothing was, what would be evidence."),
    "seen_at": Definition("Seen", "The instant that the evidence is about."),
    "recorded_by": Definition("By", "Who recorded it by command."),
    "evidence_age": Definition("Age", "From then to the clock above."),
    "evidence_expires": Definition("Expires", "From when it counts no more."),
    # Model
    "version": Definition("Version", "Its number in the registry."),
    "state": Definition(
        "State", "champion: in production; was champion: earlier; refused: the gate did not let it become champion."
    ),
    "trained_as_of": Definition("Trained as of", "The instant whose knowledge it was trained on."),
    "holdout_metric": Definition(
        "On its holdout",
        "The metric it is judged by, on the newest label times, which it was not fitted on, "
        "with its confidence interval "
        "(bootstrap by entity).",
    ),
    "train_rows": Definition("Trained on", "Rows it was fitted on."),
    "holdout_rows": Definition("Judged on", "Rows of the holdout."),
    "extract_id": Definition(
        "Extract", "The rows it was made from, named by their content; `make reproduce ID=` makes them again."
    ),
    "feature_version": Definition(
        "Definition", "Which definition of the features it knows; see features.feature_versions."
    ),
    "gate_reason": Definition("The gate said", "Why it was promoted, or why not."),
    "measured_name": Definition("Metric", "What was measured on the holdout."),
    "measured": Definition("Value", "Its estimate with the confidence interval (bootstrap by entity)."),
    "check": Definition(
        "Check", "What a challenger has to pass; all are made, and one that fails is enough to refuse."
    ),
    "check_result": Definition("Result", "passed or failed."),
    "check_evidence": Definition("Evidence", "The numbers it was decided by."),
    "mean_score": Definition("Mean score", "What the model said on average in this tenth of the holdout."),
    "share_true": Definition("Turned out", "The share it was true of."),
    "bin_rows": Definition("Rows", "Rows of the holdout in it."),
    "importance_feature": Definition("Feature", "An input of the model."),
    "importance_drop": Definition(
        "Drop",
        "By how much the metric falls when the feature's values change places (permutation importance, Breiman 2001).",
    ),
    "importance_deviation": Definition("Deviation", "Standard deviation of that over repeats."),
    "slice": Definition("Slice", "A part of the holdout: a segment of the YAML, or entities that training never saw."),
    "slice_rows": Definition("Rows", "Rows of the holdout in it."),
    "cohort": Definition("Cohort", "The as_of of the predictions; of each day the newest with labels."),
    "scope": Definition("Scope", "batch: the scored population; online: the logged requests, weighted."),
    "predictions": Definition("Predictions", "How many there are."),
    "expected": Definition(
        "Expected", "Estimated before any label is known, from calibrated scores (CBPE), with its interval."
    ),
    "turned_out": Definition("Turned out", "Measured when the labels had matured, with its confidence interval."),
    "calibration_error": Definition(
        "Calibration error", "Mean distance of tenths' shares from their scores, weighted by rows (Naeini et al. 2015)."
    ),
    "since": Definition("Since", "When it became champion."),
    "reign_kind": Definition("By", "promotion through the gate, or rollback."),
    "replaced_version": Definition("Instead of", "The champion before."),
    "because": Definition("Because", "What was said when it became champion."),
    # Retraining
    "priority": Definition("Priority", "How urgent the trigger is: critical, high, medium, low, or none."),
    "decision_reason": Definition("Reason", "Why, or why not, with the numbers it rests on."),
    "guards": Definition("Forbidden by", "Guards that forbid what a trigger called for, each with its reason."),
    "dag_run": Definition("Dag run", "The run of the retraining Dag that decided."),
    "stretch_until": Definition("Until", "The newest decision that says the same."),
    "stretch_decisions": Definition(
        "Decisions",
        "How many decisions in a row have the same outcome, trigger and guards; one to retrain always stands alone.",
    ),
    "came_of_it": Definition("What came of it", "The version trained as of this instant, and the gate's word."),
    "curve_age": Definition("Age", "Days from the instant a model was trained at to the one it was judged at."),
    "curve_excess": Definition(
        "Worse by", "Mean log loss above that of a model trained at that very instant, on the same rows."
    ),
    "curve_low": Definition("At least", "Lower end of its confidence interval (bootstrap by entity)."),
    "curve_high": Definition("At most", "Upper end of its confidence interval (bootstrap by entity)."),
    "spread_low": Definition("Spread from", "One label time in ten is below this."),
    "spread_high": Definition("Spread to", "One label time in ten is above this."),
    "curve_pairs": Definition("Pairs", "Pairs of an old model and a label time that were compared."),
    "curve_rows": Definition("Rows", "Rows they rest on; a row counts once for each pair."),
    "band_start": Definition("From", "The first instant of hours in a row with this outcome."),
    "band_end": Definition("To", "The end of the last of these hours."),
    "band_outcome": Definition("Outcome", "What the decisions of these hours came to."),
    "band_decisions": Definition("Decisions", "How many they are."),
    "decided_then": Definition("At as of", "The newest instant that had been decided on when it became champion."),
    # Features
    "drift_feature": Definition(
        "Feature",
        "An input of the model; (prediction), (label) and (rows) are its scores, its labels and how many rows.",
    ),
    "drift_status": Definition(
        "Status",
        "The worst of all its windows, baselines, segments and sources: critical or warning when the effect's "
        "lower bound is above that floor; ok; insufficient_data when too few entities could show it; "
        "missing_feature when nobody has a value. Not watched: off.",
    ),
    "trend": Definition(
        "30 days",
        "Of each day's last reports the largest effect that could be judged, in multiples of its warning floor, "
        "which is the dashed line; 3 and more are drawn at the edge. It alarms when the lower bound is above, not "
        "the effect itself.",
    ),
    "effect": Definition(
        "Effect / bounds",
        "How far it is from its baseline, in the unit of what decided: a KS distance, a share, or Cohen's w squared.",
    ),
    "effect_bounds": Definition(
        "Bounds of the effect",
        "The effect's confidence bounds, from the budget of false alarms. The lower one decides.",
    ),
    "effect_floor": Definition(
        "Floor / critical",
        "From where on the change matters: the YAML's warning floor, or how far the feature strays when all is "
        "well if that is more.",
    ),
    "critical_floor": Definition("Critical floor", "The floor from which on it is critical."),
    "decided_by": Definition(
        "Decided by",
        "Which test speaks: shape (Kolmogorov-Smirnov distance; of categories the largest change of a share), "
        "cells (chi-square, as Cohen's w squared), missing (values), new (values never seen before), not_finite, "
        "invalid.",
    ),
    "n": Definition("Entities / needed", "Distinct entities in the window, those without a value included."),
    "needed_n": Definition(
        "Entities needed", "Entities without which a change of twice the critical floor would go unseen."
    ),
    "missing_rate": Definition("Missing / before", "Share of entities without a value, in the window."),
    "baseline_missing_rate": Definition(
        "Missing before", "Share of entities without a value that the baseline expects."
    ),
    "compared": Definition(
        "Seen in", "Hours of the window, against which baseline, of which segment, read from which source."
    ),
    "drift_detail": Definition("Finding", "The finding as a sentence."),
    # Feature
    "window_hours": Definition("Window", "Hours before as_of whose values are taken together."),
    "baseline": Definition(
        "Baseline",
        "training: the rows the champion was trained on, mixed to the window's hours of the week; serving: the "
        "first four healthy weeks of the same definition.",
    ),
    "segment": Definition("Segment", "Part of the population, as the YAML names it; all is everybody."),
    "source": Definition("Source", "Where values are read: the snapshot, the inference log, or matured labels."),
    "training_mean": Definition("Mean before", "Of the baseline's values."),
    "serving_mean": Definition("Mean / before", "Of the window's values."),
    "training_std": Definition("Std before", "Standard deviation of the baseline's values (divided by n)."),
    "serving_std": Definition("Std / before", "Standard deviation of the window's values (divided by n)."),
    "ks_statistic": Definition(
        "KS / at most",
        "Kolmogorov-Smirnov distance: the largest difference of the distribution functions, on the cells' edges.",
    ),
    "ks_at_most": Definition("KS at most", "What it can be at most, whatever the values are within their cells."),
    "psi": Definition(
        "PSI",
        "Population stability index over the cells: sum of (now - before) ln(now / before). Empty cells count as "
        "half an entity.",
    ),
    "wasserstein": Definition(
        "Wasserstein",
        "The area between the distribution functions: by how much values moved on average, in their unit.",
    ),
    "bar": Definition("Values", "A run of whole cells of the grid, so that its shares are exact; or a category."),
    "bar_before": Definition("Before", "Share of the values, as the baseline expects it of these hours."),
    "bar_now": Definition("Now", "Share of the values in the window."),
    "bar_change": Definition("Change", "Now less before, in points of a share."),
    "course_as_of": Definition("As of", "The instant of the worst report of a quarter of a day."),
    "course_reports": Definition("Reports", "How many reports this one stands for."),
    "missing_floor": Definition(
        "Floor of missing",
        "From where on missing values are too many: missing_warning above the baseline's, half as many again at "
        "least. A feature that strays by itself has a higher one.",
    ),
    "incident_state": Definition("State", "open, or closed by a day without an alarm."),
    "incident_sentence": Definition("What was seen", "Of this feature, with its numbers."),
    "incident_because": Definition("Read from", "What the probable cause was read from."),
    "closed_at": Definition("Closed", "When a day had gone by without an alarm."),
    "verdict": Definition("Verdict", "What a person concluded: genuine or benign."),
    "injection": Definition(
        "Injected",
        "What was put into the feature's history; none is clean history, where every alarm is a false one.",
    ),
    "self_test_result": Definition("Result", "found, blind when it stayed unseen, or clean history."),
    "found_after_hours": Definition("Found after", "Hours from the injection to the first alarm."),
    "self_test_hours": Definition("Hours", "How many hours were replayed."),
    "self_test_alarms": Definition("Alarms", "In how many of those hours it alarmed."),
    "self_test_as_of": Definition("As of", "Up to when history was replayed."),
    # Parity
    "publication_id": Definition("Publication", "Its number in serving.publications."),
    "publication_state": Definition(
        "State",
        "live; retired; refused: the gate found differences, and what was live before stayed live; rollback: an as_of "
        "before one that had been published already.",
    ),
    "moment": Definition("Published", "When readers began to see it, or when the gate refused it."),
    "retired_at": Definition("Retired", "When another one took its place."),
    "live_for": Definition("Live for", "From the one to the other."),
    "published_rows": Definition("Rows", "Entities in the snapshot."),
    "gate_cells": Definition(
        "At the gate",
        "Cells that differ from a recomputation by the definition that trains, of all that were compared, the set of "
        "entities included; as it was compared last, when it was to go live or to be replaced.",
    ),
    "differs_in": Definition("Differs in", "Features with a cell that differs; (entities) is the set of them."),
    "publication_note": Definition("Note", "What the ledger says of it: accepted skew, or rollback, with the reason."),
    "log_cells": Definition(
        "In the log",
        "Cells of logged requests that differ from a recomputation at their own as_of, of all that were compared.",
    ),
    "log_rows": Definition("Requests", "Logged requests of the hour that were compared; an entity may have several."),
    "audited_at": Definition("Compared at", "When that was."),
    "finding_feature": Definition("Feature", "What differs; (entities): rows that are missing or too many."),
    "finding_mismatches": Definition("Rows that differ", "Of the rows compared, those with another value."),
    "finding_rows": Definition("Rows compared", "How many there were."),
    "finding_cause": Definition(
        "Cause",
        "backdated data: events that came late and claim to have been known; changed logic: none such explain it; new "
        "definition: it was published by another definition than the one that recomputes.",
    ),
    "finding_examples": Definition("For example", "Keys of at most five entities that differ."),
    "audit_source": Definition(
        "Source", "publication: compared by the gate; inference_log: requests that a model answered, compared later."
    ),
    "cells_differing": Definition("Cells that differ", "At the worst audit of this instant."),
    "features_differing": Definition("In features", "How many features these are of, the set of entities included."),
}

# What a word says about how things are. Colour never says it alone: the word does.
TONES = {
    "bad": frozenset({
        "stale", "unpublished", "critical", "missing_feature", "unexpected_feature", "error", "failed", "blind",
        "differs", "none", "refused",
    }),
    "warn": frozenset({
        "warning", "due", "blocked", "unknown", "insufficient_data", "baseline_missing", "not_reported", "open",
        "rollback", "live by rollback", "expired", "missing",
    }),
    "good": frozenset({"fresh", "ok", "young", "passed", "equal", "closed", "found", "promoted", "champion", "live"}),
    "news": frozenset({"retrain"}),
}  # fmt: skip


def tone(word: object) -> str:
    """good, warn, bad, news, or plain for a word that judges nothing."""
    return next((name for name, words in TONES.items() if str(word) in words), "plain")
