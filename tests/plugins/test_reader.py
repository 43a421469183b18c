"""Whose clock, time zone and language a page is written in."""

from datetime import UTC, datetime, timedelta

import pytest

from feature_health.reader import LANGUAGE_COOKIE, ZONE_COOKIE, Misread, Reader
from tests.plugins.requests import request


def test_the_clock_is_the_real_one_unless_it_is_set() -> None:
    read = Reader.of(request())
    assert read.is_now
    assert abs(read.at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("at", "cookies", "instant"),
    [
        ("2013-12-24T01:00:00Z", "", "2013-12-24T01:00:00+00:00"),
        ("2013-12-24T01:00:00%2B02:00", "", "2013-12-23T23:00:00+00:00"),
        # The form has no offset: it is filled in in the reader's zone.
        ("2013-12-24T01:00", "", "2013-12-24T01:00:00+00:00"),
        ("2013-12-24T01:00", f"{ZONE_COOKIE}=Europe/Berlin", "2013-12-24T00:00:00+00:00"),
        ("2013-07-24T01:00", f"{ZONE_COOKIE}=Europe/Berlin", "2013-07-23T23:00:00+00:00"),
        ("2013-07-24T01:00", f"{ZONE_COOKIE}=Europe%2FBerlin", "2013-07-23T23:00:00+00:00"),
    ],
)
def test_the_clock_can_be_set(at: str, cookies: str, instant: str) -> None:
    read = Reader.of(request(f"at={at}", {"cookie": cookies}))
    assert not read.is_now
    assert read.at.isoformat() == instant


@pytest.mark.parametrize("at", ["yesterday", "2013-13-01", "<script>", "0001-01-01T00:00:00%2B14:00"])
def test_what_is_no_instant_is_refused(at: str) -> None:
    with pytest.raises(Misread, match="is not an instant such as"):
        Reader.of(request(f"at={at}"))


@pytest.mark.parametrize("zone", ["Nowhere/Atlantis", "../../etc/passwd", "%2Fetc%2Fpasswd", "%00", ""])
def test_a_zone_that_is_none_is_utc(zone: str) -> None:
    assert Reader.of(request(headers={"cookie": f"{ZONE_COOKIE}={zone}"})).zone_name == "UTC"


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        ("de", "fr", "de"),
        ("zh-TW", "", "zh_Hant_TW"),
        ("", "pt-BR,en;q=0.5", "pt_BR"),
        ("", "en;q=0.1,fr;q=0.9", "fr"),
        ("klingon", "xx", "en"),
        ("", "", "en"),
    ],
)
def test_the_language_is_airflows_then_the_browsers(cookie: str, accepted: str, language: str) -> None:
    headers = {"cookie": f"{LANGUAGE_COOKIE}={cookie}", "accept-language": accepted}
    assert str(Reader.of(request(headers=headers)).locale) in {language, language.replace("_Hant", "")}
