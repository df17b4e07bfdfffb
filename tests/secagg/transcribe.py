"""Transcribe known answers from a package of test vectors: ``python -m tests.secagg.transcribe PATH``.

PATH is a wheel of ``cryptography-vectors`` in the version of ``cryptography`` in constraints.txt, or a folder where it
was unpacked; ``pip download --no-deps -d FOLDER cryptography-vectors==VERSION`` fetches it. Nothing is typed: this
script wrote every octet in tests/vectors/secagg that has a package's name beside it. Only the encapsulation keys that
try the check of FIPS 203, 7.2 are not in the package: they are made here from its first key.
"""

import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.secagg.vectors import FOLDER

PACKAGE: Final = "cryptography_vectors"
MLKEM_CASES: Final = 4
GCM_CASES: Final = 6

Root = Path | zipfile.Path


def blocks(text: str) -> Iterator[dict[str, str]]:
    """Yield the ``NAME = value`` groups of a response file, names in lower case, ended by the next count."""
    block: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"\[?(\w+)\s*=\s*([^\]]*?)\s*\]?", line.strip()):
            name, value = match[1].lower(), match[2]
            if name == "count" and "count" in block:
                yield block
                block = {}
            block[name] = value
    yield block


def about(root: Root) -> dict[str, str]:
    """Return what the package says about itself."""
    folder = next(each for each in root.iterdir() if each.name.endswith(".dist-info"))
    metadata = (folder / "METADATA").read_text(encoding="utf-8")
    found = dict(re.findall(r"^(Name|Version|License(?:-Expression)?): (.+)$", metadata, re.MULTILINE))
    licence = found.get("License-Expression") or found["License"]
    return {"package": found["Name"], "version": found["Version"], "licence": licence}


def x25519(text: str) -> dict[str, Any]:
    rows = [(each["input_scalar"], each["input_u"], each["output_u"]) for each in blocks(text)]
    return {"cases": [dict(zip(("scalar", "u", "shared"), row, strict=True)) for row in rows]}


def hkdf(text: str) -> dict[str, Any]:
    names = ("ikm", "salt", "info", "prk", "okm")
    return {"cases": [{name: each[name] for name in names} | {"length": int(each["l"])} for each in blocks(text)]}


def ed25519(text: str) -> dict[str, Any]:
    """TEST 1 to TEST 3 of RFC 8032 are the first three lines: seed ‖ public, public, message, signature ‖ message."""
    rows = [line.split(":") for line in text.splitlines()[:3]]
    return {
        "cases": [
            {"seed": pair[:64], "public": public, "message": message, "signature": signed[:128]}
            for pair, public, message, signed, _ in rows
        ]
    }


def counter_mode(text: str) -> dict[str, Any]:
    names = {"key": "key", "counter": "iv", "plaintext": "plaintext", "ciphertext": "ciphertext"}
    return {"cases": [{name: each[its].lower() for name, its in names.items()} for each in blocks(text)]}


def galois(text: str) -> dict[str, Any]:
    """The longest plaintexts under nonces of 96 bit: what is left of them without their tags is a counter mode."""
    whole = [each for each in blocks(text) if len(each.get("iv", "")) == 24 and each.get("pt")]
    longest = max(len(each["pt"]) for each in whole)
    chosen = [each for each in whole if len(each["pt"]) == longest][:GCM_CASES]
    names = {"key": "key", "nonce": "iv", "plaintext": "pt", "ciphertext": "ct"}
    return {"cases": [{name: each[its] for name, its in names.items()} for each in chosen]}


def mlkem(text: str) -> dict[str, Any]:
    names = {
        "ciphertext": "ct",
        "shared_secret": "ss",
        "foreign_ciphertext": "ct_n",
        "rejection_secret": "ss_n",
        "encapsulation_key": "pk",
    }
    chosen = [each for each, _ in zip(blocks(text), range(MLKEM_CASES), strict=False)]
    seeds = [{"seed": each["d"] + each["z"]} for each in chosen]
    rest = [{name: each[its] for name, its in names.items()} for each in chosen]
    return {
        "cases": [seed | values for seed, values in zip(seeds, rest, strict=True)],
        "encapsulation_keys": list(_coefficients(bytes.fromhex(chosen[0]["pk"]))),
    }


def _coefficients(key: bytes) -> Iterator[dict[str, Any]]:
    """Keys that differ from a good one in one 12-bit coefficient: the check of FIPS 203, 7.2 is coefficient < 3329."""
    for position, value, valid in [(0, 3328, True), (0, 3329, False), (767, 4095, False)]:
        bits = int.from_bytes(key[:1152], "little")
        bits = bits & ~(0xFFF << 12 * position) | value << 12 * position
        yield {
            "why": f"the first case's key with coefficient {position} set to {value}; q is 3329",
            "valid": valid,
            "encapsulation_key": (bits.to_bytes(1152, "little") + key[1152:]).hex(),
        }


SOURCES: Final = {
    "x25519.json": ("RFC 7748, section 5.2", "asymmetric/X25519/rfc7748.txt", x25519),
    "hkdf.json": ("RFC 5869, appendix A.1 to A.3", "KDF/rfc-5869-HKDF-SHA256.txt", hkdf),
    "ed25519.json": ("RFC 8032, section 7.1, TEST 1 to TEST 3", "asymmetric/Ed25519/sign.input", ed25519),
    "rfc3686-aes-256-ctr.json": ("RFC 3686, section 6, AES-256", "ciphers/AES/CTR/aes-256-ctr.txt", counter_mode),
    "aes-256-gcm.json": (
        "NIST SP 800-38D, CAVS gcmEncryptExtIV256, tags left out",
        "ciphers/AES/GCM/gcmEncryptExtIV256.rsp",
        galois,
    ),
    "fips203_mlkem768.json": ("FIPS 203, ML-KEM-768", "asymmetric/MLKEM/kat_MLKEM_768.rsp", mlkem),
}
"""JSON file → (standard, file in the package, how it is read)."""


def transcribe(path: Path) -> dict[str, dict[str, Any]]:
    """Return the content of every JSON file that this package can give."""
    root: Root = path if path.is_dir() else zipfile.Path(path)
    found = {}
    for name, (source, file, read) in SOURCES.items():
        octets = (root / PACKAGE / file).read_bytes()
        where = {"file": f"{PACKAGE}/{file}", "sha256": hashlib.sha256(octets).hexdigest()}
        found[name] = {"source": source} | about(root) | where | read(octets.decode())
    return found


if __name__ == "__main__":
    for name, content in transcribe(Path(sys.argv[1])).items():
        (FOLDER / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
