"""The audit log: who did, tried or was refused what, in records chained by hashes, durable before a write is answered.

`AuditLog` takes events from the event loop and writes them in one thread; `verify` finds any record that was edited,
dropped, repeated or reordered; docs/audit.md is the page for operators.
"""

from fleet_common.audit.configured import create_audit
from fleet_common.audit.events import AuditEvent
from fleet_common.audit.log import AuditLog
from fleet_common.audit.verify import Verdict, verify

__all__ = [
    "AuditEvent",
    "AuditLog",
    "Verdict",
    "create_audit",
    "verify",
]
