"""Telling people of incidents: one message per event, in each channel that the exposure's YAML names.

Airflow's own providers deliver, through Airflow connections. The Dag file reads this module at parse time to know the
channels, so Airflow, its providers and numpy are imported where they are used.

Unlike other steps this one is not free to repeat: run again, it tells again.
"""

import html
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from features.contract import Model, NotifySettings
from features.errors import SkewlessError
from features.partition import format_key

if TYPE_CHECKING:
    from airflow.sdk import Connection

log = logging.getLogger(__name__)

SLACK = "slack"
EMAIL = "email"
# Slack cuts a text at 40,000 characters, and nobody reads that many. What is cut is the middle: whom to ask comes last.
LONGEST = 3000
LAST_PART = 500
# Where a connection keeps secrets, besides its password.
SECRET_EXTRAS = ("access_token", "client_secret", "proxy")
LONGEST_REASON = 300


class NotTold(SkewlessError):
    """Nothing is known to be delivered, for a reason that may pass: trying again tells nobody twice."""


@dataclass(frozen=True)
class Message:
    """What is told, as plain text.

    Attributes:
        title: one line, which is the mail's subject too.
        lines: label and text of each.
    """

    title: str
    lines: tuple[tuple[str, str], ...]

    def as_slack(self) -> str:
        """For Slack with `mrkdwn` off, where only its control characters & < > remain to be escaped."""
        return "\n".join([_slack(self.title), *(f"{label}: {_slack(text)}" for label, text in self.lines)])

    def as_html(self) -> str:
        """For a mail."""
        rows = "".join(
            f'<tr><th align="left" valign="top">{html.escape(label)}</th><td>{html.escape(text)}</td></tr>\n'
            for label, text in self.lines
        )
        return f"<p><strong>{html.escape(self.title)}</strong></p>\n<table>\n{rows}</table>\n"


def _slack(text: str) -> str:
    return html.escape(text, quote=False)


def channels(model: Model) -> dict[str, str]:
    """The channels that the model's YAML names, and the Airflow connection of each; empty when nobody is to be told."""
    notify = model.monitoring.notify
    connections = {SLACK: notify.slack_webhook, EMAIL: notify.email.connection if notify.email else None}
    return {channel: connection_id for channel, connection_id in connections.items() if connection_id}


def tell(
    model: Model,
    events: Sequence[Mapping[str, Any]],
    as_of: datetime,
    log_link: str | None = None,
    channel: str | None = None,
) -> list[str]:
    """Sends one message per event to each channel, or to one. What fails keeps nothing else from being sent.

    Args:
        events: those of `features.steps.conclude.conclude`, which already holds back what was told before.
        log_link: where to read more.
        channel: one of `channels`; by default all of them.

    Returns:
        channel and title of each message that was delivered.

    Raises:
        NotTold: when nothing was delivered, and trying again may help.
        SkewlessError: when some messages were not delivered, or a connection or provider is missing.
    """
    if not events:
        log.info("No incident opened, worsened, closed or is due for a reminder: there is nothing to tell.")
        return []
    named = {name: connection for name, connection in channels(model).items() if channel in (None, name)}
    if not named:
        log.info("config.meta.monitoring.notify of exposure %s names nobody to tell.", model.name)
        return []
    messages = [message_of(model, event, as_of, log_link) for event in events]
    told: list[str] = []
    failures: list[_Failure] = []
    for name, connection_id in named.items():
        for message in messages:
            failure = _send(name, connection_id, model.monitoring.notify, message)
            if failure:
                failures.append(failure)
            else:
                told.append(f"{name}: {message.title}")
                log.info("Told %s: %s", name, message.title)
    if failures:
        may_pass = not told and all(failure.may_pass for failure in failures)
        raise (NotTold if may_pass else SkewlessError)(_not_told(model, failures, len(messages)))
    return told


def message_of(model: Model, event: Mapping[str, Any], as_of: datetime, log_link: str | None = None) -> Message:
    """What is told of an event. Its summary ends with whom to ask."""
    from features.drift.incident import Event
    from features.steps.conclude import EVENTS

    head = EVENTS[Event(event["event"])]
    retraining = "not blocked by this incident"
    if event["blocks_retraining"]:
        retraining = (
            "BLOCKED until this incident closes, or until somebody says what it is: "
            f"skewless resolve-incident {event['incident_id']} --as genuine"
        )
    lines = {
        "What": event["summary"],
        "Features": ", ".join(event["features"]),
        "Severity": event["severity"],
        "Probable cause": event["cause"],
        "Retraining": retraining,
        "Model": model.name,
        "As of": format_key(as_of),
        "Incident": str(event["incident_id"]),
        "Log": log_link or "",
    }
    return Message(
        title=_one_line(f"{head}: {model.name}, {event['severity']}, {event['cause']}"),
        lines=tuple((label, _shortened(_one_line(text))) for label, text in lines.items() if text),
    )


def _one_line(text: str) -> str:
    """A line break would start another line of the message, or another header of the mail."""
    return " ".join(text.split())


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - LAST_PART]} ... {text[-LAST_PART:]}"


@dataclass(frozen=True)
class _Failure:
    channel: str
    connection_id: str
    reason: str
    may_pass: bool


def _send(channel: str, connection_id: str, notify: NotifySettings, message: Message) -> _Failure | None:
    connection = None
    try:
        connection = _connection(connection_id)
        SEND[channel](notify, message)
    # Whatever the library of one channel raises, the other channels are still told.
    except Exception as error:
        reason = str(error) if isinstance(error, SkewlessError) else f"{type(error).__name__}: {error}"
        may_pass = not isinstance(error, SkewlessError)
        return _Failure(channel, connection_id, _without_secrets(reason, connection), may_pass)
    return None


def _connection(connection_id: str) -> "Connection":
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        raise SkewlessError("there is no such connection, or it cannot be read") from None


def _without_secrets(text: str, connection: "Connection | None") -> str:
    """The text on one line, without the connection's secrets or any part of them: a webhook's URL is one itself."""
    if connection:
        secrets = [connection.password, *(connection.extra_dejson.get(key) for key in SECRET_EXTRAS)]
        whole = {str(secret) for secret in secrets if secret}
        parts = {part for secret in whole for part in re.findall(r"\w{6,}", secret)}
        for secret in sorted(whole | parts, key=len, reverse=True):
            text = text.replace(secret, "***")
    return _one_line(text)[:LONGEST_REASON]


def _send_slack(notify: NotifySettings, message: Message) -> None:
    try:
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
        from slack_sdk.http_retry import all_builtin_retry_handlers
    except ModuleNotFoundError:
        raise _missing("apache-airflow-providers-slack") from None
    assert notify.slack_webhook is not None
    hook = SlackWebhookHook(
        slack_webhook_conn_id=notify.slack_webhook,
        retry_handlers=all_builtin_retry_handlers(),
        # slack_sdk writes the webhook's URL to its log before it tries again; whoever has that URL can post.
        logger=logging.Logger("slack_sdk", logging.CRITICAL + 1),
    )
    hook.send(text=message.as_slack(), mrkdwn=False, unfurl_links=False, unfurl_media=False)


def _send_email(notify: NotifySettings, message: Message) -> None:
    try:
        from airflow.providers.smtp.hooks.smtp import SmtpHook
    except ModuleNotFoundError:
        raise _missing("apache-airflow-providers-smtp") from None
    assert notify.email is not None
    with SmtpHook(smtp_conn_id=notify.email.connection) as hook:
        hook.send_email_smtp(to=list(notify.email.to), subject=message.title, html_content=message.as_html())


SEND: dict[str, Callable[[NotifySettings, Message], None]] = {SLACK: _send_slack, EMAIL: _send_email}


def _missing(package: str) -> SkewlessError:
    return SkewlessError(f"{package} is not installed; `make install` installs it, as does `pip install {package}`")


def _not_told(model: Model, failures: Iterable[_Failure], messages: int) -> str:
    """Names each channel, its connection, why, and what to do."""
    by_channel: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        by_channel.setdefault((failure.channel, failure.connection_id), []).append(failure.reason)
    parts = [
        f"{channel} (Airflow connection {connection_id!r}): {len(reasons)} of {messages} messages were not delivered: "
        f"{'; '.join(dict.fromkeys(reasons))}."
        for (channel, connection_id), reasons in by_channel.items()
    ]
    variables = ", ".join(f"AIRFLOW_CONN_{connection_id.upper()}" for _, connection_id in by_channel)
    return (
        f"{' '.join(parts)} Mend the connection (Admin > Connections, or {variables}) or config.meta.monitoring.notify "
        f"of exposure {model.name}, then clear this task: it sends every message again. Meanwhile `skewless incidents "
        f"--model {model.name}` lists what was not told."
    )
