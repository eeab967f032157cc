"""What services that keep their state in PostgreSQL share; needs the extra `fleet-common[postgres]`."""

from fleet_common.postgres.idempotency import PostgresRecords

__all__ = ["PostgresRecords"]
