"""The two spellings of a field's name."""

from __future__ import annotations

import pytest

from jit_service.domain.language.field_name import json_name, spellings


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("subject", "subject"),
        ("create_time", "createTime"),
        ("subject_source_ip", "subjectSourceIp"),
        ("a_bCd", "aBCd"),
    ],
)
def test_json_writes_a_name_without_underscores(name: str, written: str) -> None:
    assert json_name(name) == written


def test_each_spelling_is_its_name() -> None:
    assert spellings(["create_time", "name"]) == {
        "create_time": "create_time",
        "createTime": "create_time",
        "name": "name",
    }
