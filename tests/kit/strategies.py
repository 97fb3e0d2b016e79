"""What hypothesis makes up for several tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
# An account's id and key.
CREDENTIAL = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# Secrets of 16, 24 or 32 bytes: keys of AES.
AES_KEY = st.sampled_from([16, 24, 32]).flatmap(
    lambda size: st.one_of(
        st.text(st.characters(max_codepoint=0x7F), min_size=size, max_size=size),
        st.text(
            st.characters(min_codepoint=0x80, max_codepoint=0x7FF), min_size=size // 2, max_size=size // 2
        ),
    )
)
