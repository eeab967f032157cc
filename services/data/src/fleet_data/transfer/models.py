"""Nouns of the transfer feature: what is asked for, the job that does it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Format = Literal["csv", "jsonl", "parquet"]
Compression = Literal["none", "gzip", "zstd"]
Kind = Literal["export", "import"]
State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]

ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled", "expired"})
_SUFFIX: dict[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_MEDIA: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_PACKED: dict[Compression, str] = {"gzip": "application/gzip", "zstd": "application/zstd"}


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be written to a file, as the row of its job keeps it.

    Attributes:
        sql: one read-only statement.
        object: name of an object, all of whose records are exported.
        segment: id of a segment whose records are exported.
        where: a filter on the records, as JSON.
        columns: fields of the records; None for all, custom properties included.
        masks: what the caller may not see, as of when the job was made.
        max_rows: an export of more rows fails.
    """

    format: Format
    compress: Compression = "none"
    sql: str | None = None
    object: str | None = None
    segment: str | None = None
    where: Any = None
    columns: tuple[str, ...] | None = None
    masks: tuple[str, ...] = ()
    max_rows: int = 1_000_000

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> ExportRequest:
        """Return the request that `to_json` stored."""
        columns = stored["columns"]
        return cls(
            **{
                **stored,
                "masks": tuple(stored["masks"]),
                "columns": None if columns is None else tuple(columns),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return what the row of the job keeps."""
        return asdict(self)

    @property
    def suffix(self) -> str:
        """Return how the name of the file ends, such as `.csv.gz`."""
        return f".{self.format}{_SUFFIX[self.compress]}"

    @property
    def media_type(self) -> str:
        """Return what the file is to HTTP."""
        return _PACKED.get(self.compress, _MEDIA[self.format])

    @property
    def file_name(self) -> str:
        """Return what a browser calls the file, without the date."""
        name = self.object or ("segment" if self.segment else "query")
        return f"{name}{self.suffix}"


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What is to be read from a file, as the row of its job keeps it.

    Attributes:
        upload: id of the file.
        mapping: name in the file → field; None where the names are the fields'.
        match_on: the field that finds an existing record.
        masks: what the caller may not set, as of when the job was made.
    """

    object: str
    format: Format
    upload: str
    mapping: Mapping[str, str] | None = None
    match_on: str = "id"
    dry_run: bool = False
    masks: tuple[str, ...] = ()

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> ImportRequest:
        """Return the request that `to_json` stored."""
        return cls(**{**stored, "masks": tuple(stored["masks"])})

    def to_json(self) -> dict[str, Any]:
        """Return what the row of the job keeps."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reject:
    """A line of a file that was not imported, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """One export or import, as its row says. Times are ISO 8601 in UTC."""

    tenant: str
    id: str
    subject: str
    state: State
    request: Mapping[str, Any]
    attempts: int
    rows: int
    bytes: int
    file: str | None
    sha256: str | None
    result: Mapping[str, Any] | None
    error_code: str | None
    error: str | None
    created_at: str
    finished_at: str | None
    expires_at: str

    @property
    def has_ended(self) -> bool:
        """Return whether nothing will happen to it any more, but that it expires."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Due:
    """A job that somebody must look after: run it, or delete what is left of it."""

    kind: Literal["export", "import", "upload"]
    action: Literal["run", "expire"]
    tenant: str
    id: str
    subject: str


@dataclass(slots=True)
class Progress:
    """How far a running job is."""

    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a job that went well leaves: a file, if there is one, and facts about it.

    Attributes:
        is_recorded: the row of the job says so already, in the transaction of what the job did.
    """

    rows: int
    bytes: int = 0
    file: str | None = None
    sha256: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    is_recorded: bool = False
