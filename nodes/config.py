"""What an operator writes into ``site.toml`` and ``coordinator.toml``.

Parsing happens here and nowhere else: a file either becomes a frozen model or a one-line error that names the
file and the key. An unknown key is an error, because a misspelt setting that is silently ignored is a setting
the operator believes to be in force. ``docs/reference/configuration.md`` is generated from these models.

No deadline, privacy parameter or roster is set here: those stand in the study that every site signed.
"""

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from nodes.errors import ConfigError, StorageProblem
from nodes.files import read

__all__ = [
    "Address",
    "CoordinatorConfig",
    "LogFormat",
    "LogLevel",
    "Paths",
    "SiteConfig",
    "SiteName",
    "Toml",
    "load",
    "parse",
    "parse_name",
    "setting",
]

_LIMIT: Final = 1 << 20  # a configuration of a mebibyte is a mistake
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def setting(meaning: str, *, unit: str = "", kind: str = "", **constraints: Any) -> Any:
    """Return a pydantic field that carries what the reference page prints.

    Args:
        meaning: One clause for the operator.
        unit: "seconds", "bytes", …; empty for a pure number or a name.
        kind: What to write ("host:port", "path"); empty if the Python type says it.
        **constraints: ``default``, ``gt``, ``le`` and the like, handed to `pydantic.Field`.
    """
    return Field(description=meaning, json_schema_extra={"unit": unit, "kind": kind}, **constraints)


@dataclass(frozen=True)
class Address:
    """A host name or IP address and a TCP port (1..65535; 0 asks the system for a free one)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> object:
    if isinstance(value, Address) or not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    plain = bool(re.fullmatch(r"[A-Za-z0-9.-]+", host)) or bool(re.fullmatch(r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", host))
    if not colon or not plain or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError('must be "host:port", for example "coordinator.example.org:8443"')
    return Address(host, int(port))


def parse_name(value: str) -> str:
    """Return a site's name if it is a DNS label.

    Raises:
        ValueError: it is not.
    """
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 of a-z, 0-9 and hyphen, not beginning or ending with a hyphen")
    return value


def _url(value: SecretStr) -> SecretStr:
    if not re.match(r"(sqlite|postgresql)(\+[a-z0-9]+)?://", value.get_secret_value()):
        raise ValueError('must begin with "postgresql://" or "sqlite:///"')
    return value


HostPort = Annotated[Address, BeforeValidator(_address)]
SiteName = Annotated[str, AfterValidator(parse_name)]
"""A DNS label: it is the common name of the site's certificate and a word in every report."""


class LogLevel(StrEnum):
    """The least important log line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """JSON for machines, console for people."""

    JSON = "json"
    CONSOLE = "console"


class Toml(BaseModel):
    """A frozen model of a TOML file or table; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Paths:
    """Where things lie inside a data directory: one place, so that backup and erasure can be described."""

    root: Path

    @property
    def identity(self) -> Path:
        """Ed25519 identity key of the site, PKCS8 PEM, mode 0600."""
        return self.root / "identity.pem"

    @property
    def tls_key(self) -> Path:
        """P-256 key of this party's TLS certificate, mode 0600."""
        return self.root / "tls-key.pem"

    @property
    def certificate(self) -> Path:
        """This party's TLS certificate, PEM."""
        return self.root / "tls-certificate.pem"

    @property
    def authority(self) -> Path:
        """Certificate of the coordinator's TLS authority, PEM."""
        return self.root / "tls-authority.pem"

    @property
    def authority_key(self) -> Path:
        """Key of the TLS authority (coordinator only), mode 0600."""
        return self.root / "tls-authority-key.pem"

    @property
    def database(self) -> Path:
        """Ledger, runs, stored uploads and sums (SQLite)."""
        return self.root / "haemfed.sqlite3"

    @property
    def policy(self) -> Path:
        """The site's refusals."""
        return self.root / "policy.toml"

    def session(self, run_id: bytes) -> Path:
        """Ratcheted secret state of one run, mode 0600, replaced each round; belongs in no backup."""
        return self.root / f"session-{run_id.hex()}.secret"


class SiteConfig(Toml):
    """``site.toml``: one hospital's daemon."""

    name: SiteName = setting("name of this hospital, as the other hospitals know it")
    data_dir: Path = setting("keys, ledger and state of this site; relative to this file", kind="path")
    coordinator: HostPort = setting("where the coordinator listens", kind="host:port")
    reconnect_patience: float = setting(
        "how long to go on trying to reach the coordinator", unit="seconds", default=600.0, gt=0, le=604800
    )
    log_level: LogLevel = setting("least important line that is written", default=LogLevel.INFO)
    log_format: LogFormat = setting("json for machines, console for people", default=LogFormat.JSON)
    threads: int = setting("processor threads for training", unit="threads", default=1, ge=1, le=256)
    anchor: Path | None = setting(
        "file that remembers where the ledger stood, better on another disk, in no backup; unset means "
        "``<data_dir>.anchor`` beside it; relative to this file",
        kind="path",
        default=None,
    )

    @property
    def paths(self) -> Paths:
        """Where things lie in ``data_dir``."""
        return Paths(self.data_dir)

    @model_validator(mode="after")
    def _anchor_is_outside(self) -> Self:
        if self.anchor is not None and self.anchor.resolve().is_relative_to(self.data_dir.resolve()):
            raise ValueError("anchor must lie outside data_dir: a restored data_dir would restore it, too")
        return self

    @property
    def anchor_file(self) -> Path:
        """Where the ledger's anchor lies: outside ``data_dir``."""
        return self.anchor if self.anchor is not None else self.data_dir.with_name(f"{self.data_dir.name}.anchor")


class CoordinatorConfig(Toml):
    """``coordinator.toml``: the blind adder."""

    listen: HostPort = setting("address and port to listen on; port 0 takes any free one", kind="host:port")
    data_dir: Path = setting("certificates and state; relative to this file", kind="path")
    database: Annotated[SecretStr, AfterValidator(_url)] | None = setting(
        "database of the runs; unset means SQLite inside data_dir", kind="URL", default=None
    )
    pace: float = setting(
        "shortest time between two rounds; spares sites that share one machine",
        unit="seconds",
        default=0.0,
        ge=0,
        le=60,
    )
    log_level: LogLevel = setting("least important line that is written", default=LogLevel.INFO)
    log_format: LogFormat = setting("json for machines, console for people", default=LogFormat.JSON)

    @property
    def paths(self) -> Paths:
        """Where things lie in ``data_dir``."""
        return Paths(self.data_dir)

    @property
    def database_url(self) -> str:
        """The configured URL, or SQLite in ``data_dir``."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.paths.database}"


_T = TypeVar("_T", bound=Toml)


def load(model: type[_T], path: Path) -> _T:
    """Read a TOML file into its model.

    Args:
        model: `SiteConfig`, `CoordinatorConfig` or another `Toml` model.
        path: The file.

    Raises:
        ConfigError: missing, unreadable, not TOML, an unknown key, a missing key, or a value out of range;
            one line naming the file and the key.
    """
    try:
        text = read(path, limit=_LIMIT).decode()
        values = tomllib.loads(text)
    except StorageProblem as error:
        raise ConfigError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for name in ("data_dir", "anchor"):
        if isinstance(given := values.get(name), str) and given:
            # Relative to the file, not to wherever the daemon was started from.
            values[name] = str((path.parent / Path(given).expanduser()).absolute())
    return parse(model, values, source=str(path))


def parse(model: type[_T], values: dict[str, Any], *, source: str) -> _T:
    """Validate parsed TOML; ``source`` names the file in the error."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first(error, model)}") from error


def _first(error: ValidationError, model: type[BaseModel]) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(model.model_fields) if len(first["loc"]) == 1 else ""
            text = f"unknown key {key}" + (f"; known keys: {known}" if known else "")
        case "missing":
            text = f"{key} is missing"
        case _:
            message = first["msg"].removeprefix("Value error, ")
            text = f"{key}: {message[0].lower()}{message[1:]}" if key else message
    return text + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
