"""Cursors of pages."""

import pytest

from commandjobs.errors import InvalidOption
from commandjobs.model.find import decode_cursor, encode_cursor


@pytest.mark.parametrize("id", [1, 12345, 2**62])
def test_a_cursor_leads_back_to_its_id(id: int) -> None:
    assert decode_cursor(encode_cursor(id)) == id


@pytest.mark.parametrize("cursor", ["", "id-", "12", "id--1", "id-1; drop", "id-²", "page-2", "id-1.0"])
def test_anything_else_is_refused_with_the_way_out(cursor: str) -> None:
    with pytest.raises(InvalidOption, match="Pass the `next` of the page before"):
        decode_cursor(cursor)
