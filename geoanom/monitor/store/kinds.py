"""Kinds of columns that SQLite and PostGIS keep in their own ways."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import shapely
from sqlalchemy import LargeBinary, Text, func
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, UserDefinedType

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry
    from sqlalchemy import ColumnElement, Dialect

SRID = 4326

Key = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that is ordered by its bytes, as Python and SQLite do, whatever the language of the database."""


class Words(TypeDecorator[str]):
    """Text for people; what UTF-8 or PostgreSQL cannot hold is written as an escape."""

    impl = Key
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the database."""
        return None if value is None else value.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


class Where(TypeDecorator[str]):
    """A path or URL, whose bytes need not be text."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - SQLAlchemy's signature
        """To the database."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """From the database."""
        return None if value is None else os.fsdecode(value)


class _PostgisWkb(UserDefinedType[bytes]):
    """A geometry of PostGIS that is spoken to in WKB; queries then need no GeoAlchemy2, which only makes the columns."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        """Its name in SQL."""
        return f"geometry(GEOMETRY,{SRID})"

    def bind_expression(self, bindvalue: Any) -> ColumnElement[Any]:
        """To the database."""
        return func.ST_GeomFromWKB(bindvalue, SRID, type_=self)

    def column_expression(self, colexpr: Any) -> ColumnElement[Any]:
        """From the database."""
        return func.ST_AsBinary(colexpr, type_=self)


Shape = LargeBinary().with_variant(_PostgisWkb(), "postgresql")
"""A geometry in WGS 84, as WKB."""


def to_wkb(geometry: BaseGeometry) -> bytes:
    """As a `Shape` column takes it."""
    return bytes(shapely.to_wkb(geometry))


def from_wkb(wkb: bytes) -> BaseGeometry:
    """As a `Shape` column gives it."""
    geometry: BaseGeometry = shapely.from_wkb(bytes(wkb))
    return geometry
