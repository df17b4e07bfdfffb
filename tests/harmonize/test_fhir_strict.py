"""Strict mode adds findings about the whole resource; it never changes the table."""

import io
import json
import sys
from typing import Any

import pytest

from harmonize import mapping as mappings
from harmonize import sources
from harmonize.errors import ConfigError
from harmonize.events import Issue, Pointer
from harmonize.sources import bundle, ndjson
from harmonize.sources.fhir import Reader
from harmonize.sources.strict import Strict
from tests.harmonize.patients import PROFILE, fhir_mapping
from tests.harmonize.test_fhir_sources import ALL, ENCOUNTER, PATIENT, WBC

WHERE = ("f.ndjson", 3)


@pytest.fixture(scope="module")
def strict() -> Strict:
    pytest.importorskip("fhir.resources")
    return Strict()


def issues(strict: Strict, resource: Any) -> list[tuple[str, str]]:
    raw = resource if isinstance(resource, bytes) else json.dumps(resource).encode()
    found = list(strict.issues(raw, *WHERE))
    assert all((issue.where.file, issue.where.line) == WHERE for issue in found)
    return [(issue.code, issue.where.field) for issue in found]


@pytest.mark.parametrize("resource", ALL)
def test_good_resources(strict: Strict, resource: dict[str, Any]) -> None:
    assert issues(strict, resource) == []


COMPONENT = {"code": {"text": "x"}, "valueInteger": 1}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({**WBC, "valueQuantity": {"value": "13,5"}}, ("strict-invalid", "$.valueQuantity.value")),
        ({**WBC, "effectiveDateTime": "2010-01-01T10:00:00"}, ("strict-invalid", "$.effectiveDateTime")),
        ({**WBC, "MrsMiller": 1}, ("strict-invalid", "$")),
        ({**WBC, "valueQuantity": {"value": 1, "MrsMiller": 1}}, ("strict-invalid", "$.valueQuantity")),
        ({**WBC, "component": [COMPONENT, {"code": {}, "valueInteger": "x"}]},
         ("strict-invalid", "$.component[1].valueInteger")),
        ({**WBC, "valueString": "x"}, ("strict-invalid", "$")),
        ({**WBC, "contained": [{"resourceType": "Nonsense"}]}, ("strict-invalid", None)),
        ({**WBC, "status": "banana"}, ("strict-binding", "$.status")),
        ({**PATIENT, "gender": "M"}, ("strict-binding", "$.gender")),
        ({**ENCOUNTER, "status": "done"}, ("strict-binding", "$.status")),
        ({**WBC, "valueQuantity": {"value": 1, "comparator": "about"}},
         ("strict-binding", "$.valueQuantity.comparator")),
        ({**WBC, "component": [{**COMPONENT, "dataAbsentReason": {"text": "x"}}]},
         ("strict-invariant", "$.component[0] (obs-6)")),
        ({**WBC, "dataAbsentReason": {"text": "x"}}, ("strict-invariant", "$ (obs-6)")),
        ({**WBC, "component": [{"code": WBC["code"], "valueInteger": 1}]},
         ("strict-invariant", "$.component[0] (obs-7)")),
        ({"resourceType": "Nonsense"}, ("resource-unknown", "")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_without_a_value(
    strict: Strict, resource: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    found = issues(strict, resource)

    assert expected in found or (expected[1] is None and expected[0] in [code for code, _ in found])
    assert not any(word in str(found) for word in ("13,5", "Miller", "banana", "about", "10:00"))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b'{"resourceType": 7}', b'"x"', b"[" * 10_000])
def test_what_cannot_be_read_is_said_by_others(strict: Strict, raw: bytes) -> None:
    assert issues(strict, raw) == []


def test_strict_mode_only_adds(strict: Strict) -> None:
    odd = [*ALL, {**WBC, "status": "banana"}, {"resourceType": "Medication"}, {"resourceType": "Nonsense"}]
    lines = b"\n".join(json.dumps(part).encode() for part in odd)
    document = json.dumps({"resourceType": "Bundle", "entry": [{"resource": part} for part in odd]}).encode()

    def items(reader: Reader, form: str) -> list[Any]:
        if form == "ndjson":
            found = list(ndjson.read(io.BytesIO(lines), fhir_mapping("ndjson"), PROFILE, reader))
        else:
            found = list(bundle.read(io.BytesIO(document), fhir_mapping("bundle"), PROFILE, reader))
        return [*found, *reader.finish()]

    patient = fhir_mapping("ndjson").patient
    for form in ("ndjson", "bundle"):
        plain = items(Reader(patient, PROFILE), form)
        more = items(Reader(patient, PROFILE, strict), form)
        assert [item for item in more if not (isinstance(item, Issue) and "strict" in item.code)] == [
            *plain[:-2],
            Issue("resource-unknown", Pointer("stream", 7)),
            *plain[-2:],
        ]
        assert Issue("strict-binding", Pointer("stream", 5, "$.status")) in more


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(sys.modules, "fhir.resources.R4B", None)
    text = 'format = "ndjson"\nprofile = "aml_core"\nfiles = ["*"]\n[patient]\nsystem = "urn:x"\n'

    with pytest.raises(ConfigError, match=r"^strict mode needs fhir.resources; install haemfed\[strict\]"):
        sources.read(tmp_path, mappings.loads(text, PROFILE), PROFILE, strict=True)
