"""Errors of the audits.

AuditError
├── MisuseError              we called it wrongly: shapes, ranges, an order of calls
├── PolicyError              the operator must mend a policy file
├── IntegrityError           evidence does not belong together (ledger, accountants, digests)
└── CertificateError         somebody handed us a certificate that must not be accepted
    ├── MalformedCertificate     not the one canonical form, unknown fields, wrong types
    ├── SignatureRefused         a signature is missing, wrong, or by a key nobody trusts
    ├── WrongArtefact            the certificate speaks of another file
    ├── OutsideValidity          not yet valid, or expired
    └── NotPassed                authentic, but its verdict is not PASS
"""

from __future__ import annotations

__all__ = [
    "AuditError",
    "CertificateError",
    "IntegrityError",
    "MalformedCertificate",
    "MisuseError",
    "NotPassed",
    "OutsideValidity",
    "PolicyError",
    "SignatureRefused",
    "WrongArtefact",
]


class AuditError(Exception):
    """Base class of everything this package raises on purpose."""


class MisuseError(AuditError):
    """The caller broke a precondition; messages carry names and sizes, never data."""


class PolicyError(AuditError):
    """A policy file cannot be used; the message names the key and the way out."""


class IntegrityError(AuditError):
    """Pieces of evidence contradict each other before any statistics is done."""


class CertificateError(AuditError):
    """A certificate is not accepted."""


class MalformedCertificate(CertificateError):  # noqa: N818 - reads as a sentence where it is raised
    """The bytes are not the one canonical form of a certificate."""


class SignatureRefused(CertificateError):  # noqa: N818 - as above
    """A required signature is absent, invalid, or made by a key that is not trusted for that role."""


class WrongArtefact(CertificateError):  # noqa: N818 - as above
    """The certificate is for another file."""


class OutsideValidity(CertificateError):  # noqa: N818 - as above
    """The date asked about lies before issue or after expiry."""


class NotPassed(CertificateError):  # noqa: N818 - as above
    """The certificate is authentic and its verdict is not PASS."""
