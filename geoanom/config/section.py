"""What all groups of settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings that knows no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
