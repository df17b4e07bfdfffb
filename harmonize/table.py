"""The canonical table: one row per patient, the same bytes for the same facts from whatever source."""

__all__ = ["Matrix", "Table", "build"]

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harmonize.buffers import from_numpy, to_numpy, validity, vectors_to_numpy
from harmonize.cohort.assemble import assemble
from harmonize.errors import MisuseError, NotReady, TableError
from harmonize.events import Item
from harmonize.layout import FORMAT, USABLE, check, one, schema
from harmonize.matrix import Matrix, matrix
from harmonize.parquet import whole
from harmonize.profile import Profile
from harmonize.reporting.quality import Quality


class Table:
    """A harmonised cohort under one profile.

    Columns: `pid` (string), then per variable `<name>` (float64; int8 for categories; a list of float32 of fixed
    size for vectors; null unless the state is usable) and `<name>__m` (uint8, a `State`), then `time` (int32, days)
    and `event` (bool), then `<outcome>_time` and `<outcome>_event` of further outcomes (null: not known). Rows are
    sorted by pid. There is no date in it, and the schema metadata holds the layout's and the profile's name, version
    and digest, nothing else; in a table of nobody also its origin (`harmonize.synthetic`).
    """

    def __init__(self, arrow: pa.Table, profile: Profile) -> None:
        """Wrap an Arrow table.

        Raises:
            ProfileMismatch: the metadata names another profile digest.
            TableError: columns, order or contents are not those that the profile promises.
        """
        check(arrow, profile)
        self._arrow = arrow
        self._profile = profile

    def __len__(self) -> int:
        return int(self._arrow.num_rows)

    def __repr__(self) -> str:
        return f"Table({self._profile.profile} {self._profile.version}, {self._profile.digest[:12]}…)"

    @property
    def arrow(self) -> pa.Table:
        """The Arrow table (immutable)."""
        return self._arrow

    @property
    def profile(self) -> Profile:
        """The profile it was made under."""
        return self._profile

    @cached_property
    def pids(self) -> list[str]:
        """Pseudonyms in row order."""
        pids: list[str] = self._arrow.column("pid").to_pylist()
        return pids

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over layout, profile digest, column names, values, gaps and states: names the frozen snapshot.

        Independent of the Parquet writer's version.
        """
        content = hashlib.sha256()
        for part in (FORMAT.encode(), self._profile.digest.encode(), len(self).to_bytes(8, "little")):
            content.update(len(part).to_bytes(4, "little") + part)
        for name in self._arrow.column_names:
            column = one(self._arrow, name)
            if pa.types.is_string(column.type):
                values = "\0".join(column.to_pylist()).encode()
            elif pa.types.is_fixed_size_list(column.type):
                values = vectors_to_numpy(column).astype("<f4").tobytes()
            else:
                kind = "<f8" if pa.types.is_floating(column.type) else "<i8"
                values = to_numpy(column).astype(kind).tobytes()
            known = validity(column).astype(np.uint8).tobytes()
            for part in (name.encode(), values, known):
                content.update(len(part).to_bytes(8, "little") + part)
        return content.hexdigest()

    def states(self, name: str) -> NDArray[np.uint8]:
        """uint8[n]: the `State` of every patient's value of a variable."""
        return to_numpy(one(self._arrow, f"{name}__m"))

    def take(self, rows: Sequence[bool]) -> "Table":
        """The rows whose flag is true, in order."""
        if len(rows) != len(self):
            raise MisuseError(f"{len(rows)} flags for {len(self)} rows")
        return Table(self._arrow.filter(pa.array(rows, type=pa.bool_())), self._profile)

    def matrix(self) -> Matrix:
        """Scale, clip and fill by the profile's public constants."""
        return matrix(self._arrow, self._profile)

    def require_ready(self, minimum: int) -> None:
        """Refuse a table that is too small or too sparse; asked once, locally, before a study is signed.

        The answer depends on patients, so it is never asked while a study runs and never sent: a person at
        the site declares readiness.

        Raises:
            NotReady: fewer patients than `minimum`, or a tier A variable with more missing values than the
                profile's max_rate.
        """
        if len(self) < minimum:
            raise NotReady(
                f"the table has {len(self)} usable patients and this site's minimum is {minimum}; "
                "look at the cohort flow in the quality report for who was left out, or widen the extract"
            )
        for variable in self._profile.inputs:
            unusable = 1 - np.isin(self.states(variable.name), USABLE).mean() if len(self) else 0.0
            if variable.tier == "A" and unusable > float(variable.missing.max_rate):
                raise NotReady(
                    f"{variable.name}: {unusable:.0%} of the patients have no usable value, allowed are "
                    f"{float(variable.missing.max_rate):.0%}; see {variable.name} in the quality report"
                )

    def to_parquet(self, sink: BinaryIO) -> None:
        """Write Parquet (zstd) to a binary stream: deterministic for one version of pyarrow."""
        pq.write_table(
            self._arrow,
            sink,
            compression="zstd",
            version="2.6",
            write_statistics=False,
            write_page_checksum=True,
        )

    def to_parquet_bytes(self) -> bytes:
        """The Parquet file as bytes; writing it atomically is the caller's."""
        sink = io.BytesIO()
        self.to_parquet(sink)
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, source: BinaryIO | bytes, profile: Profile) -> "Table":
        """Read a table back.

        Args:
            source: an open binary file, or its bytes.
            profile: the study's profile.

        Raises:
            TableError: not Parquet, truncated, or not one of our tables.
            ProfileMismatch: made under another profile.
        """
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        try:
            arrow = whole(stream)
        except (pa.ArrowException, OSError):
            raise TableError("not a Parquet file, or truncated; harmonise the source again") from None
        return cls(arrow, profile)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[object]], profile: Profile) -> "Table":
        """Build from columns (sequences or Arrow arrays) named as in the schema; rows are put in order of their pid."""
        table_schema = schema(profile)
        arrays = [
            column if isinstance(column := columns[field.name], pa.Array) else pa.array(column, type=field.type)
            for field in table_schema
        ]
        pids = arrays[0].to_pylist()
        order = from_numpy(np.array(sorted(range(len(pids)), key=pids.__getitem__), dtype=np.int32))
        arrow = pa.Table.from_arrays(
            [column.take(order).cast(field.type) for column, field in zip(arrays, table_schema, strict=True)],
            schema=table_schema,
        )
        return cls(arrow, profile)


def build(items: Iterable[Item], profile: Profile, pseudonym_key: bytes) -> tuple[Table, Quality]:
    """Build the canonical table from what a source yields.

    The table is a function of the facts, the profile and the key: not of the source's format, its order, or
    the units, notations and names it uses.

    Args:
        items: from `harmonize.sources`.
        profile: the study's profile.
        pseudonym_key: 32 secret bytes of the site, one key for all its sources, never changed.

    Raises:
        SourceError: the source cannot be read or trusted; no partial table is made.
        MisuseError: the key has not 32 bytes.
    """
    assembled = assemble(items, profile, pseudonym_key)
    return Table.from_columns(assembled.columns, profile), assembled.quality
