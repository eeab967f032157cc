"""The audit log that the settings ask for."""

from __future__ import annotations

from fleet_common.audit.log import AuditLog
from fleet_common.audit.reading import FileReader, Reader
from fleet_common.audit.sinks import FileSink, Sink, StreamSink
from fleet_common.settings import ServiceSettings, SettingsError

_STDOUT, _STDERR = 1, 2
_GATEWAY = "gateway"  # what goes through it concerns the whole fleet


def create_audit(service: str, settings: ServiceSettings, *, is_stdio: bool = False) -> AuditLog:
    """Return the log of one process, not yet open.

    Args:
        service: name that every record carries.
        settings: sink, key and capture.
        is_stdio: stdout belongs to the protocol, so records that would go there go to stderr.

    Raises:
        SettingsError: the sink lacks its file or its database.
    """
    key = settings.audit_key
    sink = _sink(settings, _STDERR if is_stdio else _STDOUT)
    return AuditLog(
        sink,
        service=service,
        reader=_reader(sink, service, settings),
        key=key.get_secret_value().encode() if key else None,
        captures=settings.audit_capture,
    )


def _sink(settings: ServiceSettings, descriptor: int) -> Sink:
    prefix = settings.prefix()
    if settings.audit_sink == "file":
        if settings.audit_file is None:
            raise SettingsError(f"{prefix}AUDIT_FILE is not set: the sink `file` needs it")
        return FileSink(settings.audit_file, max_bytes=settings.audit_file_mb * 1_000_000)
    if settings.audit_sink == "postgres":
        if settings.audit_database_url is None:
            raise SettingsError(
                f"{prefix}AUDIT_DATABASE_URL is not set: the sink `postgres` needs it"
            )
        # Imported here: asyncpg comes with the extra `postgres` only.
        from fleet_common.postgres.audit import PostgresSink  # noqa: PLC0415

        return PostgresSink(settings.audit_database_url.get_secret_value())
    return StreamSink(descriptor)


def _reader(sink: Sink, service: str, settings: ServiceSettings) -> Reader | None:
    if isinstance(sink, FileSink):
        return FileReader(sink)
    if settings.audit_sink != "postgres" or settings.audit_reader_url is None:
        return None
    # Imported here: as above.
    from fleet_common.postgres.audit import PostgresReader  # noqa: PLC0415

    url = settings.audit_reader_url.get_secret_value()
    return PostgresReader(url, None if service == _GATEWAY else service)
