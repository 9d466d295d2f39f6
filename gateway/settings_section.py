"""Owns what every table of the settings file has in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

type Size = Annotated[int, Field(ge=0)]
type Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the settings file: unknown names are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_none(cls, values: Any) -> Any:
        """TOML has no null: an empty text stands for it where the default is none."""
        if not isinstance(values, dict):
            return values
        optional = {name for name, field in cls.model_fields.items() if field.default is None}
        return {name: None if value == "" and name in optional else value for name, value in values.items()}
