"""Dates of acquisition: tags before names, always in UTC."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoanom.sources.dates import acquisition_datetime

DATES = [
    ({"ACQUISITION_DATETIME": "2021-04-01T06:57:06.25+02:00"}, "20000101.tif", "2021-04-01T04:57:06Z"),
    ({"TIFFTAG_DATETIME": "2018:07:16 06:06:23"}, "x.tif", "2018-07-16T06:06:23Z"),
    ({"TIFFTAG_DATETIME": "2018:07:16 06:06:23", "ACQUISITION_DATETIME": "2017-01-02"}, "x.tif", "2017-01-02T00:00:00Z"),
    ({"ACQUISITION_DATETIME": "yesterday"}, "m_4709963_se_14_1_20090818.tif", "2009-08-18T00:00:00Z"),
    ({}, "S2A_MSIL1C_20200131T103021_N0208.tif", "2020-01-31T10:30:21Z"),
    ({}, "scene_2020-02-29.tif", "2020-02-29T00:00:00Z"),
    ({}, "scene_2021_02_29_20210301.tif", "2021-03-01T00:00:00Z"),
    ({}, "201404_13SED190110_201404_0x1500m_CL_1.tif", None),
    ({}, "1220200101.tif", None),
    ({"ACQUISITION_DATETIME": "0001-01-01T00:00:00+05:00"}, "x.tif", None),
    ({}, "scene.tif", None),
]


@pytest.mark.parametrize(("tags", "name", "moment"), DATES)
def test_the_date_comes_from_tags_before_the_name(tags: dict[str, str], name: str, moment: str | None) -> None:
    assert acquisition_datetime(tags, name) == moment


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_tags_and_names_say_a_date_is_in_utc_or_none(tag: str, name: str) -> None:
    moment = acquisition_datetime({"TIFFTAG_DATETIME": tag}, name)
    assert moment is None or dt.datetime.fromisoformat(moment).utcoffset() == dt.timedelta(0)


@given(st.datetimes(timezones=st.timezones()))
def test_every_moment_keeps_its_instant_to_the_second(moment: dt.datetime) -> None:
    try:
        expected = moment.astimezone(dt.UTC).replace(microsecond=0)
    except OverflowError:
        return
    got = acquisition_datetime({"ACQUISITION_DATETIME": moment.isoformat()}, "x")
    assert got is not None
    assert dt.datetime.fromisoformat(got) == expected
