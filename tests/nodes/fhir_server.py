"""A small FHIR server on the loopback interface: searches by code, patient and id, pages, and misbehaves on request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Resource = dict[str, Any]
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Script:
    """What the server has, and how it behaves.

    Args:
        resources: what can be found.
        version: that /metadata claims.
        token: that it wants; None wants none.
        page: resources of one page.
        intercept: (number of the request from 1, path) → an answer instead of the right one, or None.
        next_link: makes the link to the next page from the right one.
        asked: methods and paths, in order.
        forms: searches as they came.
    """

    resources: Sequence[Resource] = ()
    version: str = "4.0.1"
    token: str | None = None
    page: int = 3
    intercept: Callable[[int, str], Answer | None] = lambda _number, _path: None
    next_link: Callable[[str], str] = lambda link: link
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Serve; yields the base address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms until its head is acknowledged

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._serve("")

        def do_POST(self) -> None:
            self._serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def _serve(self, form: str) -> None:
            script.asked.append(f"{self.command} {self.path}")
            found = script.intercept(len(script.asked), self.path)
            if found is None:
                found = _answer(script, self.path, form, str(self.headers.get("Authorization")), base())
            status, headers, body = found
            self.send_response(status)
            for name, value in ({"Content-Type": "application/fhir+json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def base() -> str:
        return f"http://127.0.0.1:{server.server_address[1]}/fhir"

    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield base()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(script: Script, path: str, form: str, authorization: str, base: str) -> Answer:
    if path == "/fhir/metadata":
        return 200, {}, json.dumps({"resourceType": "CapabilityStatement", "fhirVersion": script.version}).encode()
    if script.token is not None and authorization != f"Bearer {script.token}":
        return 401, {}, b'{"resourceType": "OperationOutcome", "issue": [{"diagnostics": "SECRET-IN-ANSWER"}]}'
    parts = urlsplit(path)
    kind = parts.path.removeprefix("/fhir/").removesuffix("/_search")
    asked = {name: values[0] for name, values in parse_qs(form or parts.query).items()}
    if form:
        script.forms.append({"kind": kind, **asked})
    start = int(asked.pop("offset", "0"))
    size = min(int(asked.pop("_count", "1000")), script.page)
    wanted = {name: frozenset(value.split(",")) for name, value in asked.items()}
    found = [each for each in script.resources if each["resourceType"] == kind and _matches(each, wanted)]
    bundle: Resource = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(found),
        "entry": [{"resource": each, "search": {"mode": "match"}} for each in found[start : start + size]],
        "link": [],
    }
    if start + size < len(found):
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        link = f"{base}/{kind}?{query}&offset={start + size}&_count={size}"
        bundle["link"].append({"relation": "next", "url": script.next_link(link)})
    bundle["entry"].append({"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}})
    return 200, {}, json.dumps(bundle, indent=2).encode()  # with line breaks inside resources


def _matches(resource: Resource, wanted: dict[str, frozenset[str]]) -> bool:
    return (
        ("patient" not in wanted or _subject(resource) in wanted["patient"])
        and ("_id" not in wanted or resource.get("id") in wanted["_id"])
        and ("code" not in wanted or not wanted["code"].isdisjoint(_codes(resource)))
    )


def _codes(resource: Resource) -> set[str]:
    return {f"{each['system']}|{each['code']}" for each in resource.get("code", {}).get("coding", ())}


def _subject(resource: Resource) -> str:
    subject: str = resource.get("subject", {}).get("reference", "")
    return subject.removeprefix("Patient/")
