"""From CSV and feature files to a fusion study over TLS and back to predictions; not every hospital has everything."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audits import policy
from harmonize.profile import load as load_profile
from harmonize.table import Table
from models.loading import load as load_model
from models.networks import FusedBlocks
from models.presets import PRESETS
from nodes import accounts as ledgers
from nodes import enrolment, files, tls
from nodes import study as studies
from nodes.auditing import attack_locally, self_check
from nodes.cohort import load_cohort
from nodes.config import CoordinatorConfig, SiteConfig, load
from nodes.coordinator import Coordinator
from nodes.drafting import draft
from nodes.fingerprint import fingerprint
from nodes.harmonising import harmonise
from nodes.places import Places, load_secrets
from nodes.policy import read_policy
from nodes.protocol import Terms
from nodes.provision import create_coordinator, create_site
from nodes.results import write_results
from nodes.rpc_client import GrpcLink
from nodes.rpc_server import serve
from nodes.signing import approve_and_sign
from nodes.site import Finished, run_study
from nodes.store import CoordinatorStore, SiteStore
from nodes.study import Study
from tests.nodes.hospitals import policy_text
from tests.nodes.released import command_line

pytestmark = pytest.mark.slow
NOW = dt.datetime.now(dt.UTC)
PROFILE = load_profile("mm")
(IMAGE,) = PROFILE.features
PATIENTS = 48
ALL = ("cytogenetic", "mutations", "image")
LACKS = {"alder": (), "birch": (), "cedar": ("image",), "dogwood": ("cytogenetic", "image")}
"""What a hospital never has; alder's patients differ among themselves."""

COHORT = """\
profile = "mm"

[[source]]
format = "csv"
files = ["cohort.csv"]
patient = {{ system = "urn:test", column = "id" }}
[source.columns]
birth_date = {{ column = "born" }}
index_date = {{ column = "dx" }}
sex = {{ column = "sex" }}
death_date = {{ column = "died" }}
last_follow_up = {{ column = "seen" }}
hb = {{ column = "hb", unit = "g/dL" }}
{more}
"""
COLUMNS = {
    "cytogenetic": 'cyto_t4_14 = { column = "t414", present = "1", absent = "0" }\n'
    'cyto_del17p = { column = "del17p", present = "1", absent = "0" }\n',
    "mutations": 'mut_tp53 = { column = "tp53", present = "1", absent = "0" }\n',
}
FEATURES = f"""\
[[source]]
format = "features"
files = ["petct.parquet"]
patient = {{ system = "urn:test", column = "case" }}
variable = "radiomics"
encoder = "{IMAGE.encoder}"
"""


def write_source(folder: Path, name: str) -> Path:
    """A hospital's export, its feature file if it has one, and its mapping."""
    folder.mkdir()
    chance = np.random.default_rng(list(LACKS).index(name))
    subsets = list(product((True, False), repeat=len(ALL)))
    rows, cases, vectors = [], [], []
    for number in range(PATIENTS):
        subset = subsets[number % len(subsets)] if name == "alder" else (True,) * len(ALL)
        has = {each: there and each not in LACKS[name] for each, there in zip(ALL, subset, strict=True)}
        vector = chance.uniform(-1, 1, IMAGE.length)
        died = chance.random() < 0.5
        found = {key: str(int(chance.random() < 0.3)) for key in ("t414", "del17p", "tp53")}
        kept = {
            key: text if has["mutations" if key == "tp53" else "cytogenetic"] else "" for key, text in found.items()
        }
        seen = f"{2012 + int(chance.integers(0, 4))}-06-01"
        rows.append({
            "id": f"P{number}", "born": f"19{40 + number % 30}-01-01", "dx": "2010-05-06",
            "sex": ("male", "female")[number % 2], "hb": f"{8 + 6 * chance.random():.1f}",
            "died": seen if died else "", "seen": seen, **kept,
        })  # fmt: skip
        if has["image"]:
            cases.append(f"P{number}")
            vectors.append(vector)
    with (folder / "cohort.csv").open("w", newline="") as sink:
        writer = csv.DictWriter(sink, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    more = "".join(text for modality, text in COLUMNS.items() if modality not in LACKS[name])
    mapping = COHORT.format(more=more)
    if vectors:
        columns = {"case": cases} | dict(zip(IMAGE.columns, np.array(vectors).T.tolist(), strict=True))
        pq.write_table(pa.table(columns), folder / "petct.parquet")
        mapping += FEATURES
    (folder / "mapping.toml").write_text(mapping)
    return folder / "mapping.toml"


@dataclass(frozen=True)
class Consortium:
    """Hospitals that have signed a study, and where the coordinator serves it."""

    root: Path
    study: Study
    coordinator: Coordinator
    address: str

    def config(self, name: str) -> SiteConfig:
        return load(SiteConfig, self.root / name / "site.toml")

    def places(self, name: str) -> Places:
        return Places(self.config(name).paths)

    def table(self, name: str) -> Table:
        return Table.from_parquet(self.places(name).table("mm").read_bytes(), PROFILE)

    def model(self, name: str) -> Path:
        return self.places(name).run(self.study.run_id) / "model.safetensors"

    def take_part(self, name: str) -> Finished | None:
        config = self.config(name)
        link = GrpcLink(self.address, tls.load_credentials(config.paths, NOW), max_words=self.study.max_words)
        return run_study(
            self.study,
            config,
            link,
            watch=lambda *_: None,
            deliver=partial(_write, self.places(name)),
            delivered=self.model(name).exists,
        )


def _write(places: Places, done: Finished) -> None:
    write_results(places, done)


def found(root: Path) -> tuple[Study, CoordinatorConfig]:
    """Keys, pins, budgets, tables, and a study that everybody has signed."""
    telephone = create_coordinator(root / "coordinator", "test", "127.0.0.1:1", ["127.0.0.1"], NOW)
    coordinator = load(CoordinatorConfig, root / "coordinator" / "coordinator.toml")
    identities = {}
    for name in LACKS:
        request, _ = create_site(root / name, name, "127.0.0.1:1")
        admitted = enrolment.admit(tls.load_authority(coordinator.paths), enrolment.read_document(request), NOW)
        paths = load(SiteConfig, root / name / "site.toml").paths
        enrolment.accept(paths, admitted.bundle, site=name, expected=telephone, now=NOW)
        identities[name] = admitted.identity
    study = draft(
        "fusion",
        "a test",
        profile=PROFILE,
        preset=replace(PRESETS["fusion-wide"], steps=3, uploads=6, latent=2),
        sites=[(name, key, "20-49") for name, key in identities.items()],
        terms=Terms(declared_patients=150.0, patient_cap=512, deadline_seconds=120.0),
        seed=b"seed",
        not_after=(NOW + dt.timedelta(days=1)).isoformat(timespec="seconds"),
    )
    files.write(root / "study.json", studies.SignedStudy(study).to_json())
    copies, kinds = [], [stage.kind for stage in study.stages]
    for name in LACKS:
        config = load(SiteConfig, root / name / "site.toml")
        peers = {peer: fingerprint(key) for peer, key in identities.items() if peer != name}
        files.write(config.paths.policy, policy_text("mm", kinds, peers).encode())
        with SiteStore(config.paths.database) as store:
            for account in ("training", "holdout"):
                ledgers.of(config, store, lambda: NOW).grant(account, 2.0, 1e-5, kind="GDP", order=0)
        harmonise(config, write_source(root / name / "source", name), None, read_policy(config.paths.policy))
        approve_and_sign(config, root / "study.json", root / name / "study.json", NOW)
        copies.append(studies.parse(files.read(root / name / "study.json"), name))
    return studies.validate(studies.merge(copies), "study.json"), coordinator


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """After its study: four hospitals have trained together through gRPC with TLS."""
    root = tmp_path_factory.mktemp("consortium")
    study, config = found(root)
    store = CoordinatorStore(f"sqlite:///{root / 'coordinator.sqlite3'}")
    coordinator = Coordinator(
        study.manifest(), store, max_words=study.max_words, deadline=120.0, patience=120.0, notice=lambda *_: None
    )
    credentials = tls.load_credentials(config.paths, NOW)
    names = {site.index: site.name for site in study.sites}
    server, port = serve(coordinator, names, address="127.0.0.1:0", tls=credentials)
    made = Consortium(root, study, coordinator, f"127.0.0.1:{port}")
    with ThreadPoolExecutor(len(LACKS)) as pool:
        assert all(each is not None for each in pool.map(made.take_part, LACKS))
    yield made
    coordinator.close()
    server.stop(1.0).wait()
    store.close()


def test_tables_carry_what_each_hospital_has(consortium: Consortium) -> None:
    for name, lacks in LACKS.items():
        matrix = consortium.table(name).matrix()
        _, present = matrix.features["radiomics"]
        _, findings = matrix.columns(("cyto_t4_14", "cyto_del17p"))
        assert present.any() == ("image" not in lacks), name
        assert findings.any() == ("cytogenetic" not in lacks), name
        assert len(matrix.pid) == PATIENTS


def test_hospitals_without_images_or_cytogenetics_end_with_the_same_bytes(consortium: Consortium) -> None:
    (data,) = {consortium.model(name).read_bytes() for name in LACKS}

    model = load_model(consortium.model("dogwood")).model
    assert data == consortium.model("alder").read_bytes()
    assert isinstance(model.network, FusedBlocks)
    assert (len(model.network.blocks), model.network.vectors) == (4, (3,))
    assert model.features == consortium.study.learning.features
    assert model.params != consortium.study.weights


def test_the_model_predicts_for_patients_of_any_blocks(
    consortium: Consortium, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    haemfed, config = command_line(capsys, monkeypatch), consortium.root / "alder" / "site.toml"
    target = tmp_path / "predicted.csv"

    code, _, err = haemfed("model", "predict", consortium.model("alder"), "--config", config, "--out", target)

    assert code == 0, err
    with target.open(newline="") as source:
        rows = {row["pseudonym"]: row for row in csv.DictReader(source)}
    table = consortium.table("alder")
    _, observed = table.matrix().columns(consortium.study.learning.features)
    network = load_model(consortium.model("alder")).model.network
    assert isinstance(network, FusedBlocks)
    edges = np.cumsum([0, *network.blocks]).tolist()
    subsets = {tuple(bool(row[a:b].any()) for a, b in pairwise(edges)) for row in observed}
    assert subsets == {(True, *rest) for rest in product((True, False), repeat=3)}
    assert set(rows) == set(table.pids)
    assert all(0 < float(row["alive_at_730.5_days"]) < 1 for row in rows.values())
    assert ", radiomics[0…30];" in haemfed("model", "show", consortium.model("alder"))[1]


def test_the_audit_reads_the_studys_columns(consortium: Consortium) -> None:
    config, study = consortium.config("dogwood"), consortium.study
    model, rules = load_model(consortium.model("dogwood")).model, policy.load("research")
    cohort = load_cohort(study, consortium.places("dogwood").table("mm"), load_secrets(Places(config.paths)).split)

    found, checked = attack_locally(study, model, cohort), self_check(study, model, rules)

    assert found is not None
    assert checked.sensitivity.holds
    assert checked.sensitivity.worst > 0.5
    assert not cohort.train.observed[:, -IMAGE.length :].any()
