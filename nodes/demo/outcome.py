"""After the run: are all models the same bits, and does every ledger show every upload?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from nodes import files
from nodes.accounts import Accounts
from nodes.cli.options import now
from nodes.demo.consortium import Consortium
from nodes.errors import StudyStopped
from nodes.places import Places
from nodes.results import MODEL
from nodes.store import CoordinatorStore, SiteStore


@dataclass(frozen=True)
class Checked:
    """What was compared.

    Args:
        digest: SHA-256 of the model file, equal at every site.
        sums: completed sums, from the coordinator's store.
        uploads: uploads charged, by site.
        rounds: round numbers used.
    """

    digest: str
    sums: int
    uploads: dict[str, int]
    rounds: int


def compare(consortium: Consortium) -> Checked:
    """Compare every site's model file, and every ledger with the sums the coordinator holds.

    Raises:
        StudyStopped: two sites hold different models, or a sum contains a site whose ledger does not show the upload.
    """
    run_id = consortium.study.run_id
    models = {
        site.hospital.name: files.read(Places(site.config.paths).run(run_id) / MODEL) for site in consortium.sites
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in models.items()}
    if len(set(digests.values())) != 1:
        raise StudyStopped(f"the hospitals hold different models: {digests}")
    with CoordinatorStore(consortium.coordinator.database_url) as store:
        sums, state = store.history(run_id), store.state(run_id)
    index = {site.name: site.index for site in consortium.study.sites}
    uploads: dict[str, int] = {}
    for site in consortium.sites:
        name = site.hospital.name
        with SiteStore(site.config.paths.database) as ledger:
            charged = {upload.round for upload in Accounts(ledger, now).uploads_of(run_id)}
        summed = {total.round for total in sums if index[name] in total.survivors}
        if not summed <= charged:
            raise StudyStopped(
                f"{name}: rounds {sorted(summed - charged)} were summed with it but are not in its ledger"
            )
        uploads[name] = len(charged)
    return Checked(next(iter(digests.values())), len(sums), uploads, state.last_round if state is not None else 0)
