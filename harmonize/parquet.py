"""Parquet read in the thread that asks for it.

pyarrow reads ahead in threads of its own. A process that ended soon after was seen to abort in its very last line, with
its work done: 5 of 120 on a busy machine ("terminate called without an active exception"), none of 120 without these
threads. Tables of one hospital are read as fast without them.
"""

__all__ = ["reader", "whole"]

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def reader(stream: BinaryIO) -> pq.ParquetFile:
    """Open a file whose columns are read in batches; pages that were written with a checksum are checked.

    Raises:
        pyarrow.ArrowException, OSError: not Parquet, or cut off.
    """
    return pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=False)


def whole(stream: BinaryIO) -> pa.Table:
    """Read a whole file.

    Raises:
        pyarrow.ArrowException, OSError: not Parquet, cut off, or damaged.
    """
    # Not read_table: it loads pyarrow.dataset, and with it pandas.
    return reader(stream).read(use_threads=False)
