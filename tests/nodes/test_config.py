"""A configuration file becomes a model or one line that names the file and the key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.config import Address, CoordinatorConfig, LogFormat, LogLevel, SiteConfig, load, parse
from nodes.errors import ConfigError

SITE = 'name = "st-elsewhere"\ndata_dir = "data"\ncoordinator = "coordinator.example.org:8443"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return path


def test_the_least_site_file(tmp_path: Path) -> None:
    config = load(SiteConfig, write(tmp_path, SITE))

    assert config.coordinator == Address("coordinator.example.org", 8443)
    assert config.data_dir == tmp_path / "data"
    assert (config.reconnect_patience, config.threads) == (600.0, 1)
    assert (config.log_level, config.log_format) == (LogLevel.INFO, LogFormat.JSON)
    assert config.paths.identity == tmp_path / "data" / "identity.pem"
    assert config.paths.session(bytes(32)).name == f"session-{'00' * 32}.secret"


def test_the_anchor_lies_beside_the_data_directory_or_where_it_is_said(tmp_path: Path) -> None:
    assert load(SiteConfig, write(tmp_path, SITE)).anchor_file == tmp_path / "data.anchor"
    elsewhere = load(SiteConfig, write(tmp_path, SITE + 'anchor = "../other/alder.anchor"\n'))
    assert elsewhere.anchor_file == tmp_path / ".." / "other" / "alder.anchor"
    for inside in ("data", "data/anchor", "x/../data/anchor"):
        with pytest.raises(ConfigError, match=r"site.toml: anchor must lie outside data_dir"):
            load(SiteConfig, write(tmp_path, SITE + f'anchor = "{inside}"\n'))


def test_the_least_coordinator_file(tmp_path: Path) -> None:
    config = load(CoordinatorConfig, write(tmp_path, 'listen = "0.0.0.0:8443"\ndata_dir = "/var/lib/haemfed"\n'))

    assert config.data_dir == Path("/var/lib/haemfed")
    assert config.database_url == "sqlite:////var/lib/haemfed/haemfed.sqlite3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data_dir =", "not TOML"),
        ("\xff", "not TOML"),
        (SITE + "treads = 2\n", "unknown key treads; known keys: name, data_dir"),
        ('data_dir = "d"\ncoordinator = "a:1"\n', "name is missing"),
        (SITE + "threads = 0\n", "threads: input should be greater than or equal to 1"),
        (SITE + "threads = 1.5\n", "threads: "),
        (SITE + "reconnect_patience = nan\n", "reconnect_patience: "),
        (SITE + "reconnect_patience = inf\n", "reconnect_patience: "),
        (SITE + 'log_level = "loud"\n', "log_level: "),
        (SITE.replace("st-elsewhere", "St. Elsewhere"), "name: must be 1 to 63"),
        (SITE.replace("st-elsewhere", "a-"), "name: must be"),
        (SITE.replace(":8443", ""), 'coordinator: must be "host:port"'),
        (SITE.replace("8443", "84430"), 'coordinator: must be "host:port"'),
        (SITE.replace("coordinator.example", "https://coordinator.example"), "coordinator: must be"),
        (SITE + "threads = 0\ntreads = 1\n", "(and 1 more)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load(SiteConfig, path)

    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "\n" not in message


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"site.toml: does not exist"):
        load(SiteConfig, tmp_path / "site.toml")
    (tmp_path / "site.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"site.toml: not UTF-8"):
        load(SiteConfig, tmp_path / "site.toml")


def test_a_database_password_is_shown_nowhere(tmp_path: Path) -> None:
    text = 'listen = "a:1"\ndata_dir = "d"\ndatabase = "postgresql://u:hunter2@db/haemfed"\n'
    config = load(CoordinatorConfig, write(tmp_path, text))

    assert "hunter2" not in repr(config) + str(config.model_dump())
    assert config.database_url == "postgresql://u:hunter2@db/haemfed"
    with pytest.raises(ConfigError, match="database: must begin with") as caught:
        load(CoordinatorConfig, write(tmp_path, text.replace("postgresql", "mysql")))
    assert "hunter2" not in str(caught.value)


@given(
    host=st.sampled_from(["localhost", "10.0.0.1", "::1", "fe80::1", "coordinator.example.org"]),
    port=st.integers(0, 65535),
)
def test_addresses_read_as_they_are_written(host: str, port: int) -> None:
    values = {"name": "a", "data_dir": "d", "coordinator": str(Address(host, port))}

    assert parse(SiteConfig, values, source="site.toml").coordinator == Address(host, port)
