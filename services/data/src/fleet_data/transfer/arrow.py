"""Parquet and zstd, by pyarrow. Imported only where they are asked for.

The rows come as CSV like all others, which keeps one way out of the database. pyarrow reads CSV three times as
fast as Python makes batches of rows, and its memory is bounded by the piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# It has no types.
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv, parquet

from fleet_common.errors import InvalidInput
from fleet_data.transfer.models import Compression
from fleet_data.transfer.sources import Column

_ZSTD_LEVEL = 3
_TYPES = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    # Without a scale there is no exact type that takes every numeric: cast to text where the last digit counts.
    "numeric": pa.float64(),
    "money2": pa.decimal128(18, 2),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}
# pyarrow's own allocator keeps what it once had; the system's gives it back.
pa.set_memory_pool(pa.system_memory_pool())


class ParquetOutput:
    """Writes each piece of CSV as one row group."""

    def __init__(self, columns: Sequence[Column], file: Any, compress: Compression) -> None:
        self._names = [column.name for column in columns]
        types = {c.name: _TYPES.get(c.kind, pa.string()) for c in columns}
        self._convert = csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,  # COPY quotes an empty text, and not a NULL
            true_values=["t"],
            false_values=["f"],
        )
        self._writer = parquet.ParquetWriter(
            file,
            pa.schema(list(types.items())),
            compression={"none": "none", "gzip": "gzip", "zstd": "zstd"}[compress],
        )

    def write(self, piece: bytes) -> None:
        """Write whole rows.

        Raises:
            InvalidInput: a value is none of its column's type, such as an infinite date.
        """
        try:
            rows = csv.read_csv(
                pa.BufferReader(piece),
                read_options=csv.ReadOptions(
                    column_names=self._names, block_size=len(piece) + 1, use_threads=False
                ),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=self._convert,
            )
        except pa.ArrowInvalid:
            # Its own text quotes the value.
            raise InvalidInput(
                "a value does not fit its column in Parquet", hint="Cast the column to text"
            ) from None
        self._writer.write_table(rows)

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()


def zstd_output(file: Any) -> Any:
    """Return a file that packs what is written to it."""
    codec = pa.Codec("zstd", compression_level=_ZSTD_LEVEL)
    return pa.CompressedOutputStream(pa.PythonFile(file, mode="w"), codec.name)


def parquet_rows(path: Path, batch_rows: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file.

    Raises:
        InvalidInput: it is none.
    """
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_rows, use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError):
        raise InvalidInput("the file is not Parquet") from None
