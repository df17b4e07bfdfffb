"""A coordinator and sites that speak gRPC over mutual TLS on this machine: the product's own ends of the stream."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from nodes import tls
from nodes.config import Paths
from nodes.tls import Credentials
from secagg.manifest import Manifest

__all__ = ["Papers", "issue"]


class Papers:
    """TLS credentials of everybody, as files below one folder.

    Args:
        root: an empty or filled folder; what is there already is used.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._now = root, dt.datetime.now(dt.UTC)

    def coordinator(self) -> Credentials:
        """Return the coordinator's."""
        return tls.load_credentials(Paths(self._root / "coordinator"), self._now)

    def site(self, name: str) -> Credentials:
        """Return a site's."""
        return tls.load_credentials(Paths(self._root / name), self._now)


def issue(root: Path, of: Manifest) -> Papers:
    """Make an authority, a server certificate and one certificate for each member."""
    now = dt.datetime.now(dt.UTC)
    centre = _folder(root / "coordinator")
    authority = tls.create_authority(centre, "benchmark", now)
    tls.create_server(authority, centre, (), now)
    for member in of.members:
        place = _folder(root / member.name)
        request = tls.make_request(tls.create_key(place.tls_key), member.name)
        place.certificate.write_bytes(tls.sign_request(authority, request, member.name, now))
        place.authority.write_bytes(authority.pem)
    return Papers(root)


def _folder(place: Path) -> Paths:
    place.mkdir(parents=True, exist_ok=True)
    return Paths(place)
