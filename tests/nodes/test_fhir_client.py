"""The HTTP client of a hospital's FHIR server, over real sockets."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from harmonize import profile as profiles
from nodes.errors import DataProblem
from nodes.fhir_client import FhirClient, Limits
from nodes.fhir_cohort import streams
from tests.nodes.fhir_server import Answer, Resource, Script, serving
from tests.sweeps import thinned

AML = "91861009"


def observations(count: int) -> list[Resource]:
    return [{"resourceType": "Observation", "id": f"o{number}", "text": {"div": "a\nb"}} for number in range(count)]


def client(base: str, **how: Any) -> FhirClient:
    return FhirClient(base, sleep=lambda _: None, **how)


def packed(octets: bytes) -> bytes:
    """gzip, the same at every time: names of tests are made of it."""
    return gzip.compress(octets, mtime=0)


def found(base: str, **how: Any) -> list[str]:
    with client(base, **how) as one:
        return [json.loads(line)["id"] for line in one.search("Observation", {})]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 10])
def test_every_page_is_read_once_and_every_resource_is_one_line(count: int) -> None:
    with serving(Script(observations(count))) as base, client(base) as one:
        lines = list(one.search("Observation", {}))
    assert [json.loads(line)["id"] for line in lines] == [f"o{number}" for number in range(count)]
    assert not any(b"\n" in line for line in lines)


def test_what_is_asked_for_stands_in_no_url() -> None:
    script = Script(observations(2))
    with serving(script) as base, client(base) as one:
        list(one.search("Observation", {"patient": "p1", "code": "http://loinc.org|718-7"}))
    assert script.asked == ["POST /fhir/Observation/_search"]
    assert script.forms[0]["patient"] == "p1"


@pytest.mark.parametrize("header", thinned(["1", None, "soon", "\u00b2", "Thu, 01 Jan 2026 00:00:00 GMT"], 3))
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int, header: str | None) -> None:
    def busy(number: int, _: str) -> Answer | None:
        return (status, {"Retry-After": header} if header else {}, b"") if number < 4 else None

    with serving(Script(observations(2), intercept=busy)) as base:
        assert found(base) == ["o0", "o1"]


def test_waits_as_long_as_the_server_says() -> None:
    slept: list[float] = []
    script = Script(
        observations(1), intercept=lambda number, _: (429, {"Retry-After": "17"}, b"") if number == 1 else None
    )
    with serving(script) as base, FhirClient(base, sleep=slept.append) as one:
        list(one.search("Observation", {}))
    assert slept == [17.0]


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, r"^127\.0\.0\.1: Observation: busy \(status 503\), 6 times"),
        ({"Retry-After": "9999999"}, "more patience than 300 s"),
    ],
)
def test_patience_ends(headers: dict[str, str], says: str) -> None:
    script = Script(intercept=lambda *_: (503, headers, b""))
    with serving(script) as base, pytest.raises(DataProblem, match=says):
        found(base)


def test_a_server_that_is_not_there() -> None:
    with serving(Script()) as base:
        pass
    with pytest.raises(DataProblem, match=r"no answer.*ConnectError.* is the server up"):
        found(base)


@pytest.mark.parametrize(
    "link",
    [
        "http://127.0.0.1:1/fhir/Observation?page=2",
        "https://127.0.0.1/fhir/Observation?page=2",
        "http://evil.example/fhir",
        "//evil.example/fhir",
        "//user:pw@{host}/fhir/Observation?page=2",
        "http://[",
    ],
)
def test_a_next_page_elsewhere_is_refused(link: str) -> None:
    script = Script(
        observations(9),
        token="t",
        next_link=lambda own: link.replace("{host}", own.partition("//")[2].partition("/")[0]),
    )
    with (
        serving(script) as base,
        pytest.raises(DataProblem, match=r"next page is (on another server|not a URL)|to the next page is not a URL"),
    ):
        found(base, token="t")
    assert len(script.asked) == 1


def test_a_relative_next_page_is_this_server() -> None:
    with serving(Script(observations(7), next_link=lambda link: link.partition("/fhir/")[2])) as base:
        assert len(found(base)) == 7


def test_a_page_that_leads_to_itself_ends_the_search() -> None:
    script = Script(observations(9), next_link=lambda link: link.replace("offset=6", "offset=3"))
    with serving(script) as base, pytest.raises(DataProblem, match="leads to itself"):
        found(base)


@pytest.mark.parametrize(
    ("coding", "body", "says"),
    [
        ("gzip", b"\x1f\x8bnot gzip" * 9, "one that broke off"),
        ("gzip", packed(b'{"resourceType": "Bundle"}')[:-9], "one that broke off"),
        ("gzip", packed(bytes(1 << 24)), "a page of more than 1 MiB"),
        ("gzip, gzip", packed(packed(bytes(1 << 24))), "not asked for"),
        ("br", b"\x5f\xff\xff", "not asked for"),
    ],
)
def test_a_compressed_answer_is_whole_small_and_of_the_kind_that_was_asked_for(
    coding: str, body: bytes, says: str
) -> None:
    tracemalloc.start()
    script = Script(intercept=lambda *_: (200, {"Content-Encoding": coding}, body))
    with serving(script) as base, pytest.raises(DataProblem, match=says):
        found(base, limits=Limits(page_bytes=1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_compressed_answer() -> None:
    body = gzip.compress(json.dumps({"resourceType": "Bundle", "entry": [{"resource": {"id": "o7"}}]}).encode())
    with serving(Script(intercept=lambda *_: (200, {"Content-Encoding": "gzip"}, body))) as base:
        assert found(base) == ["o7"]


def test_an_answer_that_never_ends() -> None:
    with serving(Script(observations(2))) as base, pytest.raises(DataProblem, match=r"an answer of more than 0 s"):
        found(base, limits=Limits(answer_seconds=0))


@pytest.mark.parametrize("token", ["a\r\nX: y", "caf\u00e9", "a\0"])
def test_a_token_cannot_write_headers(token: str) -> None:
    with pytest.raises(DataProblem, match="no token has") as refused:
        FhirClient("https://fhir.example", token=token)
    assert token not in str(refused.value)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 418, 500])
def test_a_refusal_names_server_type_and_status_and_nothing_of_the_answer(status: int) -> None:
    with (
        serving(
            Script(intercept=lambda *_: (status, {"Location": "http://evil.example"}, b"SECRET-IN-ANSWER"))
        ) as base,
        pytest.raises(DataProblem, match=rf"^127\.0\.0\.1: Observation: .*\(status {status}\)$") as refused,
    ):
        found(base)
    assert "SECRET" not in str(refused.value)


def test_the_token_goes_to_the_server_and_into_no_repr() -> None:
    with serving(Script(observations(1), token="s3cret")) as base:
        assert found(base, token="s3cret") == ["o0"]
        assert "s3cret" not in repr(client(base, token="s3cret"))
        with pytest.raises(DataProblem, match="another token"):
            found(base, token="other")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"resourceType": "Patient"}', b'{"resourceType": "Bundle", "entry": 1}', b"[" * 99999],
)
def test_what_is_not_a_bundle_is_refused(body: bytes) -> None:
    with (
        serving(Script(intercept=lambda *_: (200, {}, body))) as base,
        pytest.raises(DataProblem, match="not a FHIR Bundle"),
    ):
        found(base)


def test_limits() -> None:
    with serving(Script(observations(9))) as base:
        with pytest.raises(DataProblem, match="more than 2 pages"):
            found(base, limits=Limits(pages=2))
        with pytest.raises(DataProblem, match="a page of more than"):
            found(base, limits=Limits(page_bytes=50))


@pytest.mark.parametrize("version", ["5.0.0", "3.0.2", "1.0.2"])
def test_other_releases_are_named(version: str) -> None:
    with serving(Script(version=version)) as base, client(base) as one, pytest.raises(DataProblem, match=version):
        one.require_r4()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"resourceType": "CapabilityStatement"}'])
def test_something_else_at_the_address(body: bytes) -> None:
    script = Script(intercept=lambda *_: (200, {}, body))
    with serving(script) as base, client(base) as one, pytest.raises(DataProblem, match="not as a FHIR server"):
        one.require_r4()


@pytest.mark.parametrize(
    "base",
    [
        "http://fhir.example/r4",
        "ftp://127.0.0.1",
        "fhir.example",
        "https://user:pw@fhir.example",
        "https://x/?a=1",
        "https://[",
        "https://xn--/",
        "https://fhir.example:99999/r4",
        "",
    ],
)
def test_addresses_that_would_leak_or_are_none(base: str) -> None:
    with pytest.raises(DataProblem) as refused:
        FhirClient(base)
    assert "pw" not in str(refused.value)


def test_a_cohort_is_searched_by_its_diagnosis_and_nobody_else_is_asked_for() -> None:
    profile = profiles.load("aml_core")
    people = [f"p{number}" for number in range(100)]
    script = Script([resource for person in people for resource in _record(person, ill=person < "p5")], page=20)
    with serving(script) as base, client(base) as one:
        lines = {stream.name.split()[0]: stream.read().splitlines() for stream in streams(one, profile)}
    ill = [person for person in people if person < "p5"]
    assert {kind: len(found) for kind, found in lines.items()} == {
        "Condition": len(ill),
        "Patient": len(ill),
        "Observation": len(ill),
        "Encounter": len(ill),
    }
    asked = {person for form in script.forms for name in ("patient", "_id") for person in form.get(name, "").split(",")}
    assert asked - {""} == set(ill)


def test_nobody_with_the_diagnosis() -> None:
    says = "no Condition with a diagnosis of aml_core"
    script = Script(_record("p1", ill=False))
    with serving(script) as base, client(base) as one, pytest.raises(DataProblem, match=says):
        [stream.read() for stream in streams(one, profiles.load("aml_core"))]


def test_no_two_streams_have_one_name() -> None:
    """A fact is known by file and line: with one name for two streams, a withdrawn line of one went from both."""
    with serving(Script(_record("p1", ill=False))) as base, client(base) as one:
        one_server = streams(one, profiles.load("mds"))
        names = [next(one_server).name]
    assert names == ["Condition (diagnosis) of 127.0.0.1"]
    script = Script(_record("p1,p2", ill=True) + _record("p3", ill=True))
    with serving(script) as base, client(base) as one:
        read = [(stream.name, stream.read()) for stream in streams(one, profiles.load("aml_core"), "x (2)")]
    assert len({name for name, _ in read}) == len(read)
    assert all(name.endswith(" of x (2)") for name, _ in read)
    people = [form["_id"] for form in script.forms if form["kind"] == "Patient"]
    assert people == ["p3"]  # and nobody whom an odd reference names


def _record(person: str, *, ill: bool) -> list[Resource]:
    subject = {"reference": f"Patient/{person}"}
    code = {"coding": [{"system": "http://snomed.info/sct", "code": AML if ill else "73211009"}]}
    return [
        {"resourceType": "Patient", "id": person},
        {"resourceType": "Condition", "id": f"c{person}", "subject": subject, "code": code},
        {"resourceType": "Encounter", "id": f"e{person}", "subject": subject},
        {
            "resourceType": "Observation",
            "id": f"w{person}",
            "subject": subject,
            "code": {"coding": [{"system": "http://loinc.org", "code": "6690-2"}]},
        },
        {
            "resourceType": "Observation",
            "id": f"h{person}",
            "subject": subject,
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        },
    ]
