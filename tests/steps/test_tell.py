"""Telling: real messages to a web server and a mail server on this machine, through Airflow's connections."""

import email
import html
import json
import logging
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from features.contract import EmailSettings, Model, NotifySettings
from features.drift.incident import Event
from features.errors import SkewlessError
from features.steps.tell import LONGEST, Message, NotTold, channels, message_of, tell

AS_OF = datetime(2013, 7, 2, 5, tzinfo=UTC)
LOG = "http://127.0.0.1:8080/dags/churn_drift/runs/r/tasks/conclude?a=1&b=2"
TOKEN = "T0LEAKED01/B0LEAKED02/xLEAKEDxSECRETx03"
PASSWORD = "LEAKED-mail-password"
EVENT = {
    "event": "opened",
    "incident_id": 12,
    "cause": "unit change",
    "severity": "critical",
    "features": ["seconds_7d", "seconds_30d"],
    "blocks_retraining": True,
    "summary": "user_session_features: seconds_7d: unit change, values are 60 times larger. Ask Ada <ada@example.com>.",
}
REMINDER = {**EVENT, "event": "reminded", "incident_id": 7, "cause": "genuine", "severity": "warning"}
HOSTILE = "<script>alert('x')</script> & *bold* <!channel> \n`Subject: y`"


class Slack:
    """Slack's end of an incoming webhook: keeps what was posted, and answers as it is told to."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.answers: list[tuple[int, str]] = []  # to the next requests; afterwards 200 ok
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = slack.answers.pop(0) if slack.answers else (200, "ok")
                if status == 200:
                    assert self.path == f"/services/{TOKEN}"
                    slack.posts.append(body)
                self.send_response(status)
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(answer.replace("PATH", self.path).encode())

            def log_message(self, *_: object) -> None:
                """Keeps quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/services"

    @property
    def texts(self) -> list[str]:
        return [post["text"] for post in self.posts]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class MailBox:
    """A mail server's handler that keeps what it was sent."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.envelopes.append(envelope)
        return self.answer

    @property
    def mails(self) -> list[Mail]:
        return [email.message_from_bytes(envelope.content or b"") for envelope in self.envelopes]

    @property
    def subjects(self) -> list[str]:
        return [str(make_header(decode_header(mail["Subject"]))) for mail in self.mails]

    @property
    def texts(self) -> list[str]:
        parts = [part for mail in self.mails for part in mail.walk() if part.get_content_type() == "text/html"]
        bodies = [part.get_payload(decode=True) for part in parts]
        return [body.decode() for body in bodies if isinstance(body, bytes)]


@pytest.fixture(autouse=True)
def _airflows_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Importing Airflow sends all logging to a stream that is pytest's only for now; and no proxy comes between."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def connect(monkeypatch: pytest.MonkeyPatch, connection_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", json.dumps(fields))


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    """Slack, and the connection `alerts` to it."""
    server = Slack()
    connect(monkeypatch, "alerts", conn_type="slackwebhook", host=server.endpoint, password=TOKEN)
    yield server
    server.stop()


@contextmanager
def mail_server(box: MailBox, **options: Any) -> Iterator[int]:
    """Its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    yield port
    controller.stop()


def smtp(port: int, **fields: Any) -> dict[str, Any]:
    extra = {"from_email": "skewless@example.com", "disable_ssl": True, "disable_tls": True, "retry_limit": 0}
    return {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra, **fields}


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailBox]:
    """A mail server, and the connection `post` to it."""
    box = MailBox()
    with mail_server(box) as port:
        connect(monkeypatch, "post", **smtp(port))
        yield box


def telling(model: Model, **notify: Any) -> Model:
    monitoring = model.monitoring.model_copy(update={"notify": NotifySettings(**notify)})
    return model.model_copy(update={"monitoring": monitoring})


TO_SLACK = {"slack_webhook": "alerts"}
BY_MAIL = {"email": EmailSettings(connection="post", to=("ada@example.com", "ops@example.com"))}


@pytest.fixture
def both(churn: Model) -> Model:
    """The model, whose YAML names both channels."""
    return telling(churn, **TO_SLACK, **BY_MAIL)


def has_everything(text: str, event: dict[str, Any]) -> bool:
    words = [event["cause"], event["severity"], *event["features"], event["summary"], "churn", "2013-07-02T05:00:00"]
    return all(word in text for word in words)


class TestWhatIsTold:
    def test_arrives_in_every_channel_once_per_event(self, both: Model, slack: Slack, mailbox: MailBox) -> None:
        told = tell(both, [EVENT, REMINDER], AS_OF, LOG)
        titles = ["New incident: churn, critical, unit change", "Incident goes on: churn, warning, genuine"]
        assert told == [f"{channel}: {title}" for channel in ("slack", "email") for title in titles]
        assert [text.splitlines()[0] for text in slack.texts] == titles
        assert mailbox.subjects == titles
        for texts in (slack.texts, mailbox.texts):
            for text, event in zip(map(html.unescape, texts), (EVENT, REMINDER), strict=True):
                assert has_everything(text, event)
                assert "Ask Ada <ada@example.com>" in text
                assert LOG in text
                assert f"Incident: {event['incident_id']}" in text or f">{event['incident_id']}<" in text

    def test_goes_to_everybody_in_one_mail(self, both: Model, slack: Slack, mailbox: MailBox) -> None:
        tell(both, [EVENT], AS_OF)
        (envelope,) = mailbox.envelopes
        assert envelope.rcpt_tos == ["ada@example.com", "ops@example.com"]
        assert envelope.mail_from == "skewless@example.com"

    def test_goes_to_one_channel_when_one_is_asked_for(self, both: Model, slack: Slack, mailbox: MailBox) -> None:
        tell(both, [EVENT], AS_OF, channel="email")
        assert (len(slack.posts), len(mailbox.mails)) == (0, 1)
        tell(both, [EVENT], AS_OF, channel="slack")
        assert (len(slack.posts), len(mailbox.mails)) == (1, 1)

    def test_says_whether_retraining_is_blocked_and_how_to_go_on(self, churn: Model) -> None:
        assert "BLOCKED" in dict(message_of(churn, EVENT, AS_OF).lines)["Retraining"]
        assert "skewless resolve-incident 12 --as genuine" in dict(message_of(churn, EVENT, AS_OF).lines)["Retraining"]
        free = message_of(churn, {**EVENT, "blocks_retraining": False}, AS_OF)
        assert dict(free.lines)["Retraining"] == "not blocked by this incident"

    @pytest.mark.parametrize("event", Event)
    def test_has_a_title_for_every_event(self, churn: Model, event: Event) -> None:
        assert "ncident" in message_of(churn, {**EVENT, "event": str(event)}, AS_OF).title

    def test_keeps_whom_to_ask_however_long_it_is(self, churn: Model) -> None:
        summary = f"view: {'a feature, because; ' * 5000}Ask Ada."
        long = dict(message_of(churn, {**EVENT, "summary": summary}, AS_OF).lines)["What"]
        assert len(long) < LONGEST + 10
        assert long.startswith("view: a feature")
        assert long.endswith("Ask Ada.")

    def test_has_no_line_for_a_log_that_is_not_known(self, churn: Model) -> None:
        assert "Log" not in dict(message_of(churn, EVENT, AS_OF).lines)


class TestHostileText:
    @pytest.fixture
    def event(self) -> dict[str, Any]:
        return {**EVENT, "features": [HOSTILE], "summary": f"view: {HOSTILE}: genuine. Ask Ada.", "cause": HOSTILE}

    def test_is_shown_as_it_is_in_slack(self, both: Model, slack: Slack, mailbox: MailBox, event: Any) -> None:
        tell(both, [event], AS_OF, channel="slack")
        (post,) = slack.posts
        assert "<" not in post["text"]
        assert ">" not in post["text"]
        assert "&lt;script&gt;alert('x')&lt;/script&gt; &amp; *bold* &lt;!channel&gt; `Subject: y`" in post["text"]
        assert post["mrkdwn"] is False  # *bold* stays a feature's name

    def test_is_shown_as_it_is_in_a_mail(self, both: Model, slack: Slack, mailbox: MailBox, event: Any) -> None:
        tell(both, [event], AS_OF, channel="email")
        (text,) = mailbox.texts
        assert "<script" not in text
        assert "<!channel" not in text
        assert "&lt;script&gt;" in text
        assert " *bold* " in text
        assert "\n`" not in mailbox.subjects[0]

    @given(st.text())
    def test_can_always_be_read_back(self, text: str) -> None:
        message, empty = (Message(title=said, lines=(("Features", said),)) for said in (text, ""))
        assert not set("<>") & set(message.as_slack())
        assert html.unescape(message.as_slack()) == f"{text}\nFeatures: {text}"
        assert message.as_html().count("<") == empty.as_html().count("<")
        assert f"<td>{text}</td>" in html.unescape(message.as_html())

    def test_that_is_not_ascii_arrives(self, both: Model, slack: Slack, mailbox: MailBox) -> None:
        tell(both, [{**EVENT, "features": ["größe_🛫"], "cause": "Größe"}], AS_OF)
        assert "größe_🛫" in slack.texts[0]
        assert "größe_🛫" in mailbox.texts[0]
        assert "Größe" in mailbox.subjects[0]


class TestNothingToTell:
    def test_without_settings(self, churn: Model, caplog: pytest.LogCaptureFixture) -> None:
        assert channels(churn) == {}
        with caplog.at_level(logging.INFO, "features"):
            assert tell(churn, [EVENT], AS_OF) == []
        assert "exposure churn names nobody to tell" in caplog.text

    def test_without_events_no_connection_is_even_read(self, both: Model, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "features"):
            assert tell(both, [], AS_OF) == []
        assert "there is nothing to tell" in caplog.text

    def test_channels_are_those_that_the_yaml_names(self, churn: Model, both: Model) -> None:
        assert channels(both) == {"slack": "alerts", "email": "post"}
        assert channels(telling(churn, **TO_SLACK)) == {"slack": "alerts"}
        assert channels(telling(churn, **BY_MAIL)) == {"email": "post"}


class TestAChannelThatFails:
    def test_of_slack_keeps_no_mail_back(self, both: Model, slack: Slack, mailbox: MailBox) -> None:
        slack.answers = [(404, "no_service")] * 2
        with pytest.raises(SkewlessError) as caught:
            tell(both, [EVENT, REMINDER], AS_OF)
        assert len(mailbox.mails) == 2
        text = str(caught.value)
        assert "slack (Airflow connection 'alerts'): 2 of 2 messages were not delivered" in text
        assert "no_service" in text
        assert "AIRFLOW_CONN_ALERTS" in text
        assert "clear this task" in text
        assert "email" not in text

    def test_of_mail_keeps_nothing_from_slack(
        self, both: Model, slack: Slack, mailbox: MailBox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(monkeypatch, "post", **smtp(1))
        with pytest.raises(SkewlessError, match=r"email.*'post'.*1 of 1.*ConnectionRefusedError"):
            tell(both, [EVENT], AS_OF)
        assert len(slack.posts) == 1

    def test_at_one_event_keeps_no_other_back(self, churn: Model, slack: Slack) -> None:
        slack.answers = [(400, "invalid_payload")]
        with pytest.raises(SkewlessError, match="1 of 2 messages were not delivered") as caught:
            tell(telling(churn, **TO_SLACK), [EVENT, REMINDER], AS_OF)
        assert [text.splitlines()[0] for text in slack.texts] == ["Incident goes on: churn, warning, genuine"]
        assert not isinstance(caught.value, NotTold)  # trying again would tell of the other event twice

    def test_that_is_only_busy_is_tried_again(self, churn: Model, slack: Slack) -> None:
        slack.answers = [(429, "rate_limited")]
        assert len(tell(telling(churn, **TO_SLACK), [EVENT], AS_OF)) == 1
        assert len(slack.posts) == 1

    def test_altogether_may_be_tried_again(self, both: Model, slack: Slack, mailbox: MailBox) -> None:
        slack.answers = [(500, "oops")]
        mailbox.answer = "451 later"
        with pytest.raises(NotTold, match=r"slack.*oops.*email.*451, b'later'"):
            tell(both, [EVENT], AS_OF)

    def test_for_want_of_a_connection_is_a_mistake(self, churn: Model, mailbox: MailBox) -> None:
        model = telling(churn, slack_webhook="nowhere", **BY_MAIL)
        with pytest.raises(SkewlessError, match=r"'nowhere'.*no such connection.*AIRFLOW_CONN_NOWHERE") as caught:
            tell(model, [EVENT], AS_OF, channel="slack")
        assert not isinstance(caught.value, NotTold)

    @pytest.mark.parametrize(
        ("channel", "module"), [("slack", "slack.hooks.slack_webhook"), ("email", "smtp.hooks.smtp")]
    )
    def test_for_want_of_a_provider_names_the_package(
        self, both: Model, slack: Slack, mailbox: MailBox, monkeypatch: pytest.MonkeyPatch, channel: str, module: str
    ) -> None:
        monkeypatch.setitem(sys.modules, f"airflow.providers.{module}", None)
        package = f"apache-airflow-providers-{module.partition('.')[0]}"
        with pytest.raises(SkewlessError, match=f"pip install {package}") as caught:
            tell(both, [EVENT], AS_OF)
        assert not isinstance(caught.value, NotTold)
        assert len(slack.posts) + len(mailbox.mails) == 1


class TestSecrets:
    """A webhook's URL is a secret as a whole: whoever has it can post."""

    @staticmethod
    def all_that_is_shown(model: Model, caplog: pytest.LogCaptureFixture) -> str:
        # Airflow's hooks write to structlog, the libraries below them to Python's logging.
        with caplog.at_level(logging.DEBUG), capture_logs() as entries, pytest.raises(SkewlessError) as caught:
            tell(model, [EVENT], AS_OF)
        shown = "".join(traceback.format_exception(caught.value))
        ours = [record for record in caplog.records if not record.name.startswith("mail.log")]  # that is the server's
        records = [f"{record.getMessage()} {record.exc_info}" for record in ours]
        return "\n".join([shown, repr(caught.value.__context__), *records, *map(str, entries)])

    @pytest.mark.parametrize(
        "password",
        [f"{{endpoint}}/{TOKEN}", TOKEN, f"{TOKEN} and a space", f"{TOKEN}\tLEAKED", f"nonsense://{TOKEN}"],
        ids=["the whole URL", "the token", "a space in it", "a tab in it", "no web address"],
    )
    @pytest.mark.parametrize("failure", ["answers with the path", "is away"])
    def test_of_slack_are_in_no_error_and_no_log(
        self,
        churn: Model,
        slack: Slack,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        password: str,
        failure: str,
    ) -> None:
        endpoint = slack.endpoint if failure != "is away" else "http://127.0.0.1:1/services"
        secret = password.replace("{endpoint}", endpoint)
        connect(monkeypatch, "alerts", conn_type="slackwebhook", host=endpoint, password=secret)
        slack.answers = [(403, "no post to PATH or http://hooks.example.comPATH")]
        shown = self.all_that_is_shown(telling(churn, **TO_SLACK), caplog)
        assert "alerts" in shown
        assert "LEAKED" not in shown

    @pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
    def test_of_mail_are_in_no_error_and_no_log(
        self, churn: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        tried = []

        def refuse(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            tried.append(data.password)
            return AuthResult(success=False, handled=False, message=f"535 {data.password.decode()} is wrong")

        with mail_server(MailBox(), authenticator=refuse, auth_required=True, auth_require_tls=False) as port:
            connect(monkeypatch, "post", **smtp(port, login="skewless", password=PASSWORD))
            shown = self.all_that_is_shown(telling(churn, **BY_MAIL), caplog)
        assert PASSWORD.encode() in tried
        assert "*** is wrong" in shown
        assert "LEAKED" not in shown
