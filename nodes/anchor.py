"""The local anchor: where this site's ledger stood, kept outside the data directory.

A restored data directory restores its own proof. The anchor is a second, tiny file beside it (`<data_dir>.anchor`, or
where `anchor` in site.toml points: better on another disk), written after every entry and compared at every start. It
is the nearest witness; the peers are the others (`dp.witness`), and they hold even if the whole machine was restored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dp.errors import ForkedLedger, LedgerCorrupt, RollbackDetected
from dp.ledger import Link
from dp.witness import LARGEST_STATEMENT, Statement, extends
from nodes import files
from nodes.errors import StorageProblem

__all__ = ["Anchor"]


class Anchor:
    """The file that remembers where the ledger of one site stood.

    Args:
        path: the file; outside the data directory and outside its backups.
        site: name of the site.
    """

    def __init__(self, path: Path, site: str) -> None:
        self.path = path
        self.site = site

    def read(self) -> Statement | None:
        """Return what was written last, or None if there is no such file.

        Raises:
            StorageProblem: it cannot be read, is open to others, is damaged, or belongs to another site.
        """
        with files.storage_errors(self.path):
            if not self.path.is_file() and not self.path.is_symlink():
                return None
        try:
            statement = Statement.decode(files.read_private(self.path, limit=LARGEST_STATEMENT))
        except LedgerCorrupt as error:
            raise StorageProblem(
                f"{self.path}: not the anchor of a ledger; remove it, then run: haemfed budget recover"
            ) from error
        if statement.site != self.site:
            raise StorageProblem(
                f"{self.path}: the anchor of site {statement.site!r}, not of {self.site!r}; set `anchor`"
            )
        return statement

    def check(self, held: Statement | None, now: Statement, links: Callable[[int], Sequence[Link]]) -> None:
        """Hold the ledger as it is against the anchor.

        The ledger may lead on from the anchor by any number of entries: by one after a crash between the two writes, by
        more if the anchor could not be written or was restored alone.

        Args:
            held: what `read` returned *before* the ledger was read: a process beside this one may be writing both.
            now: what the ledger says.
            links: returns what follows an entry of the ledger, in order.

        Raises:
            RollbackDetected: the ledger ends before the anchor, or the anchor is missing although there are entries.
            ForkedLedger: the ledger has another entry where the anchor stood.
        """
        if held is None:
            if now.sequence >= 0:
                raise RollbackDetected(
                    f"{self.path} is missing: it says where this ledger stood, so that a restored copy is noticed. Put "
                    "it back (or set `anchor` in site.toml to where it is); if it is lost, run: haemfed budget recover"
                )
            return
        try:
            extends(held, now, links(held.sequence))
        except (RollbackDetected, ForkedLedger) as error:
            raise type(error)(f"{self.path}: {error}") from error

    def write(self, now: Statement) -> None:
        """Remember where the ledger stands; on the disk when this returns.

        Raises:
            StorageProblem: it cannot be written; the old one is still there.
        """
        try:
            files.write(self.path, now.encode(), private=True)
        except StorageProblem as error:
            raise StorageProblem(
                f"the anchor of the ledger cannot be written ({error}); set `anchor` in site.toml to a file that this "
                "user may write, outside the data directory"
            ) from error
