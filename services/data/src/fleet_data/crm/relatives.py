"""How objects hang together: the fields by which records of one belong to records of another."""

from __future__ import annotations

from fleet_common.errors import InvalidInput
from fleet_data.crm.models import ObjectDef


def joining(one: ObjectDef, other: ObjectDef) -> tuple[str, str]:
    """Return the columns, of `one` and of `other`, that are the same where two records belong together.

    No two objects name each other in more than one field.

    Raises:
        InvalidInput: neither names the other.
        PermissionDenied: the field that does is masked.
    """
    for field in other.fields.values():
        if field.refers_to == one.name:
            return "id", other.usable(field.name).name
    for field in one.fields.values():
        if field.refers_to == other.name:
            return one.usable(field.name).name, "id"
    raise InvalidInput(
        f"no field relates {one.name} and {other.name}", hint="Name the `link` between them"
    )
