"""Search a hospital's own FHIR server: pages, patience, limits. The only HTTP client of the project.

Searches are POSTed (`[base]/[type]/_search`): identifiers and codes then stand in no URL and no access log. Pages
follow `link[relation=next]`, but only to the server that was configured: a link elsewhere would carry the token there.

Sources: FHIR R4, https://hl7.org/fhir/R4/search.html and http.html; RFC 9110 section 10.2.3 (Retry-After).
"""

from __future__ import annotations

import datetime as dt
import email.utils
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

import httpx
import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from harmonize.reporting.tally import shown
from nodes.errors import DataProblem

__all__ = ["FhirClient", "Limits"]

_JSON: Final = "application/fhir+json"
_RELEASES: Final = ("4.0", "4.3")
_HOST: Final = re.compile(r"[A-Za-z0-9.:-]+")
_BUSY: Final = frozenset({429, 502, 503, 504})
_LAST_PORT: Final = 65_535
_GZIP: Final = 31  # for zlib: with gzip's header and checksum


@dataclass(frozen=True)
class Limits:
    """What a server may ask of us.

    Args:
        page: resources that are asked for at once.
        page_bytes: of one answer.
        pages: of one search.
        seconds: until an answer begins, or goes on.
        answer_seconds: until all of it is there: a server that sends an octet a minute never stops going on.
        attempts: of one request while the server is busy or unreachable.
        longest_wait: seconds; a Retry-After beyond it ends the search.
    """

    page: int = 500
    page_bytes: int = 64 << 20
    pages: int = 100_000
    seconds: float = 60.0
    answer_seconds: float = 1800.0
    attempts: int = 6
    longest_wait: float = 300.0


class _Part(Struct, frozen=True, rename="camel"):
    """Unknown fields are skipped without being decoded."""


class _Search(_Part, frozen=True):
    mode: str | None = None


class _Entry(_Part, frozen=True):
    resource: Raw | UnsetType = UNSET
    search: _Search | None = None


class _Link(_Part, frozen=True):
    relation: str
    url: str


class _Page(_Part, frozen=True):
    resource_type: str
    link: tuple[_Link, ...] = ()
    entry: tuple[_Entry, ...] = ()


class _Capabilities(_Part, frozen=True):
    fhir_version: str | None = None


_PAGE: Final = msgspec.json.Decoder(_Page)
_CAPABILITIES: Final = msgspec.json.Decoder(_Capabilities)


class FhirClient:
    """One server.

    Args:
        base: address of the FHIR endpoint, https; http only on this machine (127.0.0.1, localhost, ::1).
        token: bearer token, or None. It is sent to this server alone.
        limits: what it may ask of us.
        verify: path of a CA bundle, or True for the system's.
        sleep: waits so many seconds.
        transport: for tests.

    Raises:
        DataProblem: the address is not one.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str | None = None,
        limits: Limits | None = None,
        verify: str | bool = True,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        try:
            self._base = httpx.URL(base.rstrip("/") + "/")
            known = _HOST.fullmatch(self._base.host) is not None and (self._base.port or 0) <= _LAST_PORT
        except (httpx.InvalidURL, UnicodeError):  # UnicodeError: of IDNA
            known = False
        if not known:
            raise DataProblem("the FHIR server's address is not a URL; write https://host/path")
        self._limits = limits or Limits()
        if self._base.userinfo or self._base.query or self._base.fragment:
            raise DataProblem("the FHIR server's address has a user, query or fragment; write https://host/path")
        near = self._base.host in ("127.0.0.1", "localhost", "::1")
        if self._base.scheme != "https" and not (near and self._base.scheme == "http"):
            raise DataProblem(f"{self._base.host}: patients' data go over https only; write https://host/path")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise DataProblem("the bearer token has characters that no token has; it is one line of ASCII")
        # Gzip alone: it is inflated here, within the limits. Other codings turn some octets into gigabytes.
        headers = {"Accept": _JSON, "Accept-Encoding": "gzip"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._http = httpx.Client(
            headers=headers,
            timeout=self._limits.seconds,
            follow_redirects=False,
            verify=verify,
            trust_env=False,  # a proxy of the environment would see the patients
            transport=transport,
        )
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"FhirClient({self._base.host})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def name(self) -> str:
        """The server as reports call it."""
        return str(self._base.host)

    def require_r4(self) -> None:
        """Ask what the server speaks.

        Raises:
            DataProblem: not FHIR R4, or no answer.
        """
        body = self._answer(self._http.build_request("GET", self._base.join("metadata")))
        try:
            version = _CAPABILITIES.decode(body).fhir_version
        except (msgspec.DecodeError, RecursionError):
            version = None
        if version is None:
            raise DataProblem(f"{self.name}: answers, but not as a FHIR server (metadata has no fhirVersion)")
        if not version.startswith(_RELEASES):
            raise DataProblem(f"{self.name}: speaks FHIR {shown(version[:5])}; needed is R4 (4.0.1 or 4.3.0)")

    def search(self, kind: str, parameters: Mapping[str, str]) -> Iterator[bytes]:
        """Yield every resource that a search finds, as JSON on one line each, page after page.

        Args:
            kind: resource type.
            parameters: of the search; `_count` is added.

        Raises:
            DataProblem: no answer, not allowed, not FHIR, or beyond the limits. It names server and resource type.
        """
        form = {"_count": str(self._limits.page), **parameters}
        request = self._http.build_request("POST", self._base.join(f"{kind}/_search"), data=form)
        seen: set[str] = set()
        for _ in range(self._limits.pages):
            page = self._page(request, kind)
            for entry in page.entry:
                # What a search found, and what it included; not what the server remarks about it.
                if entry.resource is not UNSET and (entry.search is None or entry.search.mode != "outcome"):
                    yield bytes(entry.resource).replace(b"\n", b" ").replace(b"\r", b" ")
            following = next((link.url for link in page.link if link.relation == "next"), None)
            if following is None:
                return
            address = self._own(following, kind)
            if str(address) in seen:
                raise DataProblem(f"{self.name}: {kind}: a page leads to itself; the server's paging is broken")
            seen.add(str(address))
            request = self._http.build_request("GET", address)
        raise DataProblem(f"{self.name}: {kind}: more than {self._limits.pages:,} pages; ask for a bulk export instead")

    def _own(self, following: str, kind: str) -> httpx.URL:
        """The address of the next page, on this server."""
        try:
            address = self._base.join(following)
            origin = (address.scheme, address.host, address.port, address.userinfo)
        except (httpx.InvalidURL, ValueError):
            raise DataProblem(f"{self.name}: {kind}: the link to the next page is not a URL") from None
        # A user in the address would take the token's place.
        if origin != (self._base.scheme, self._base.host, self._base.port, b""):
            raise DataProblem(
                f"{self.name}: {kind}: the next page is on another server; write url as the server calls itself"
            )
        return address

    def _page(self, request: httpx.Request, kind: str) -> _Page:
        body = self._answer(request, kind)
        try:
            page = _PAGE.decode(body)
        except (msgspec.DecodeError, RecursionError):
            page = None
        if page is None or page.resource_type != "Bundle":
            raise DataProblem(f"{self.name}: {kind}: the answer is not a FHIR Bundle")
        return page

    def _answer(self, request: httpx.Request, kind: str = "metadata") -> bytes:
        """Body of an answer 200; waits for a server that is busy."""
        problem = "no answer"
        for attempt in range(self._limits.attempts):
            wait = min(2.0**attempt, self._limits.longest_wait)
            try:
                response = self._http.send(request, stream=True)
                try:
                    if response.status_code == 200:
                        return self._body(response, kind)
                    if response.status_code not in _BUSY:
                        raise DataProblem(f"{self.name}: {kind}: {_refusal(response.status_code)}")
                    problem = f"busy (status {response.status_code})"
                    wait = _retry_after(response.headers.get("Retry-After"), wait)
                finally:
                    response.close()
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = f"no answer, or one that broke off ({type(error).__name__})"
            if wait > self._limits.longest_wait:
                raise DataProblem(
                    f"{self.name}: {kind}: {problem}, and asks for more patience than {self._limits.longest_wait:g} s"
                )
            if attempt + 1 < self._limits.attempts:
                self._sleep(wait)
        raise DataProblem(
            f"{self.name}: {kind}: {problem}, {self._limits.attempts} times; is the server up, and its address right?"
        )

    def _body(self, response: httpx.Response, kind: str) -> bytes:
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in {"identity", "gzip"}:
            raise DataProblem(
                f"{self.name}: {kind}: the answer is compressed in a way that was not asked for (gzip was)"
            )
        most, end = self._limits.page_bytes, time.monotonic() + self._limits.answer_seconds
        inflate = zlib.decompressobj(wbits=_GZIP) if coding == "gzip" else None
        body = bytearray()
        for part in response.iter_raw():
            body += part if inflate is None else _inflated(inflate, part, most + 1 - len(body))
            if len(body) > most:
                raise DataProblem(f"{self.name}: {kind}: a page of more than {most >> 20} MiB; set a smaller page_size")
            if time.monotonic() > end:
                raise DataProblem(
                    f"{self.name}: {kind}: an answer of more than {self._limits.answer_seconds:g} s; "
                    "set a smaller page_size"
                )
        if inflate is not None and not inflate.eof:
            raise httpx.DecodingError("cut off")
        return bytes(body)


def _inflated(inflate: zlib._Decompress, part: bytes, most: int) -> bytes:
    try:
        return inflate.decompress(part, most)
    except zlib.error:
        raise httpx.DecodingError("damaged") from None


def _retry_after(text: str | None, otherwise: float) -> float:
    """Seconds, from a number or a date; `otherwise` where the server says nothing that can be read."""
    if text is None:
        return otherwise
    if re.fullmatch(r"\s*[0-9]+\s*", text, re.ASCII):
        return float(text.strip()[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return otherwise
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(tz=dt.UTC)).total_seconds())


def _refusal(status: int) -> str:
    # Never the server's own words: an OperationOutcome may quote what it did not like.
    reason = {
        400: "the server does not support this search",
        401: "the server wants another token; renew token_file",
        403: "the token may not read this; ask for the scope system/*.read",
        404: "the server does not have this resource type, or the address is wrong",
        405: "the server does not support searches by POST",
        410: "gone; the search took too long for the server",
    }
    moved = "the server sends elsewhere; configure the address that it sends to" if 300 <= status < 400 else None
    return f"{reason.get(status) or moved or 'refused'} (status {status})"
