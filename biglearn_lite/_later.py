"""Options that came later, and records, checkpoints and pages of before."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any


def said_where_set(part: Any, later: Collection[str]) -> str:
    """The repr of a dataclass, without `later` fields that are at their default.

    What was made by an older version is compared by this repr, so it must stay as it
    was for all that has no use for the new options.
    """
    fields = {field.name: field.default for field in dataclasses.fields(part)}
    said = {
        name: getattr(part, name)
        for name, default in fields.items()
        if name not in later or getattr(part, name) != default
    }
    its = ", ".join(f"{name}={value!r}" for name, value in said.items())
    return f"{type(part).__name__}({its})"
