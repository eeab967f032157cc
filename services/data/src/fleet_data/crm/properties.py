"""Custom properties: fields that a tenant adds to an object, declared as records and then used like any other field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet_common.errors import InvalidInput
from fleet_data.crm.models import CUSTOM, FieldDef, FieldKind, Scalar

_NAME = re.compile(rf"{CUSTOM}[a-z0-9_]{{1,40}}")


@dataclass(frozen=True, slots=True)
class Definition:
    """A custom property as it is stored."""

    name: str
    kind: FieldKind
    about: str | None
    choices: str | None

    @property
    def field(self) -> FieldDef:
        """Return the field; its text is fenced like every text of which nobody knows who wrote it."""
        return FieldDef(
            self.name,
            self.kind,
            self.about or "",
            free_text=self.kind == "text",
            custom=True,
            choices=_choices(self.choices),
            most=4000,
        )


def is_custom(names: Iterable[str]) -> bool:
    """Return whether a custom property is among the names."""
    return any(name.startswith(CUSTOM) for name in names)


def check_definition(values: Mapping[str, Scalar]) -> None:
    """Raise unless the values of a record of the object `property` make a field.

    Raises:
        InvalidInput: the name cannot be one, or an enum has no choices.
    """
    if not _NAME.fullmatch(str(values["name"])):
        raise InvalidInput("name: x_ and then 1 to 40 of a-z, 0-9 and _ expected, such as x_tier")
    if (values["kind"] == "enum") != bool(_choices(values["choices"])):
        raise InvalidInput("choices: an enum needs them, and nothing else has them")


def _choices(text: Scalar) -> tuple[str, ...]:
    return tuple(choice for part in str(text or "").split(",") if (choice := part.strip()))
