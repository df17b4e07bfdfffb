"""Feature files: vectors that an encoder made of slides or images, one row each, in Parquet, by patient identifier.

Numbers only: a column of bytes or of text (base64) is refused and never decoded.
"""

__all__ = ["read"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harmonize.errors import MappingError, SourceError
from harmonize.events import Event, Issue, Item, Pointer
from harmonize.mapping import Features
from harmonize.mapping.names import nearest
from harmonize.parquet import reader
from harmonize.profile import Profile
from harmonize.pseudonyms import normalised
from harmonize.sources.files import Readable, opened
from harmonize.spreadsheets import is_rounded_identifier
from harmonize.variables import FeatureVariable

_Vector = NDArray[np.float64]
_BATCH: Final = 256  # rows; a batch of 8,192 numbers a row is 16 MiB
_AGREED: Final = ("encoder", "encoder_sha256", "settings_sha256")


@dataclass(slots=True)
class _Pool:
    """Mean of a patient's vectors, summed in double precision: single-precision results do not depend on order."""

    total: _Vector = field(repr=False)
    where: Pointer
    rows: int = 0


def read(
    files: Sequence[Readable], mapping: Features, profile: Profile, cohort: Mapping[str, Pointer]
) -> Iterator[Item]:
    """Read all feature files of one variable; several rows of a patient are averaged.

    Args:
        files: Parquet files. Their metadata may state `encoder`, `encoder_sha256` and `settings_sha256`.
        mapping: what it states must be what the profile says; what neither it nor the file states is a mismatch.
        profile: has the variable, of length n.
        cohort: key of every patient of the other sources -> place of its record.

    Returns:
        One event a patient of the cohort, with n numbers rounded to single precision; `features-incomplete` for
        rows with NaN or infinity, `features-unmatched` for vectors without a patient and patients without a
        vector.

    Raises:
        MappingError: `encoder-mismatch`, or a column that is not there or not numeric.
        SourceError: not Parquet, or a vector of another length than n.
    """
    variable = profile.variable(mapping.variable)
    if not isinstance(variable, FeatureVariable):
        raise MappingError(f"variable: {mapping.variable} is no feature vector of {profile.profile}")
    pools: dict[str, _Pool] = {}
    for file in files:
        with opened(file) as (stream, name):
            for item in _File(stream, name, mapping, variable).rows():
                if isinstance(item, Issue):
                    yield item
                else:
                    _add(pools, *item)
    for key, pool in pools.items():
        if key in cohort:
            mean = (pool.total / pool.rows).astype(np.float32)
            yield Event(key, variable.name, tuple(mean.tolist()), pool.where)
        else:
            yield Issue("features-unmatched", pool.where, variable.name)
    for key, where in cohort.items():
        if key not in pools:
            yield Issue("features-unmatched", where, variable.name)


def _add(pools: dict[str, _Pool], key: str, vector: _Vector, where: Pointer) -> None:
    pool = pools.get(key)
    if pool is None:
        pools[key] = _Pool(vector.copy(), where, 1)
    else:
        pool.total += vector
        pool.rows += 1


class _File:
    """One Parquet file."""

    def __init__(self, stream: BinaryIO, name: str, mapping: Features, variable: FeatureVariable) -> None:
        self._name = name
        self._mapping = mapping
        self._variable = variable
        try:
            self._parquet = reader(stream)
        except (pa.ArrowException, OSError):
            raise SourceError(f"{name}: not Parquet, or cut off; write the features again") from None
        self._check_agreement()
        self._columns = variable.columns or (str(mapping.column),)
        self._check_types()

    def rows(self) -> Iterator[tuple[str, _Vector, Pointer] | Issue]:
        """(key of the patient, vector, place), or what is wrong with a row."""
        first = 1
        try:
            columns = [self._mapping.patient.column, *self._columns]
            for batch in self._parquet.iter_batches(_BATCH, columns=columns, use_threads=False):
                yield from self._batch(batch, first)
                first += batch.num_rows
        except (pa.ArrowException, OSError):
            raise SourceError(
                f"{self._name}: after row {first - 1}: broken Parquet; write the features again"
            ) from None

    def _batch(self, batch: pa.RecordBatch, first: int) -> Iterator[tuple[str, _Vector, Pointer] | Issue]:
        column = self._mapping.patient.column
        identifiers = batch.column(column).to_pylist()
        for number, (identifier, vector) in enumerate(zip(identifiers, self._vectors(batch, first), strict=True)):
            where = Pointer(self._name, first + number, column)
            text = "" if identifier is None else normalised(str(identifier))
            if not text:
                yield Issue("identifier-missing", where)
            elif is_rounded_identifier(text):
                yield Issue("excel-identifier", where)
            elif vector is None or not np.isfinite(vector).all():
                yield Issue("features-incomplete", where, self._variable.name)
            else:
                yield self._mapping.patient.key(text), vector, where

    def _vectors(self, batch: pa.RecordBatch, first: int) -> Iterator[_Vector | None]:
        if self._variable.columns:
            # Null becomes NaN, which is dropped like one.
            yield from np.column_stack([_numbers(batch.column(name)) for name in self._columns])
            return
        lists = batch.column(self._columns[0])
        for number in range(len(lists)):
            each = lists[number]
            if each.values is None:
                yield None
                continue
            vector = _numbers(each.values)
            if len(vector) != self._variable.length:
                raise SourceError(
                    f"{self._name}: row {first + number}: {len(vector)} numbers, but {self._variable.name} has "
                    f"{self._variable.length}; compute the features with the profile's encoder"
                )
            yield vector

    def _check_agreement(self) -> None:
        stated = {key.decode(): value.decode("utf-8", "replace") for key, value in self._metadata().items()}
        for key in _AGREED:
            agreed, given = getattr(self._variable, key), {getattr(self._mapping, key), stated.get(key)} - {None}
            if agreed is None:  # software without weights, or without settings
                continue
            if not given:
                raise MappingError(
                    f"{self._name}: encoder-mismatch: nothing states {key} of {self._variable.name}; write it into the "
                    "file's metadata or into the mapping"
                )
            if given != {agreed}:
                raise MappingError(
                    f"{self._name}: encoder-mismatch: {key} is not the one of {self._variable.name} in the profile; "
                    "compute the features again with the profile's encoder and settings"
                )

    def _metadata(self) -> dict[bytes, bytes]:
        return dict(self._parquet.schema_arrow.metadata or {})

    def _check_types(self) -> None:
        schema = self._parquet.schema_arrow
        column = self._mapping.patient.column
        for name in (column, *self._columns):
            if name not in schema.names:
                raise MappingError(f"{self._name}: no column {name!r}{nearest(name, schema.names)}")
            if schema.names.count(name) > 1:
                raise MappingError(f"{self._name}: the file has {name!r} twice; rename one of the columns")
        kind = schema.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            raise MappingError(f"{self._name}: column {column!r} is {kind}; identifiers must be text or whole numbers")
        for name in self._columns:
            kind = schema.field(name).type
            is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
            if is_list is bool(self._variable.columns) or not _numeric(kind.value_type if is_list else kind):
                expected = "numbers" if self._variable.columns else "a list of numbers"
                raise MappingError(f"{self._name}: column {name!r} is {kind}, not {expected}; nothing is decoded")


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _numbers(values: pa.Array) -> _Vector:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
