import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version as Pep440

from peerupgrade.core.versions import parse_version
from peerupgrade.errors import VersionError

number = st.integers(min_value=0, max_value=10**6)
small = st.integers(min_value=0, max_value=3)


@st.composite
def pep440(draw: st.DrawFn) -> str:
    text = ".".join(str(draw(st.one_of(small, number))) for _ in range(draw(st.integers(1, 4))))
    if draw(st.booleans()):
        text = f"{draw(small)}!{text}"
    if draw(st.booleans()):
        text += draw(st.sampled_from(["a", "b", "rc"])) + str(draw(small))
    if draw(st.booleans()):
        text += f".post{draw(small)}"
    if draw(st.booleans()):
        text += f".dev{draw(small)}"
    if draw(st.booleans()):
        text += "+" + draw(
            st.sampled_from(["1", "10", "a", "ab", "a.1", "1.a", "1.2", "2", "a1", "1a"])
        )
    return text


@given(pep440(), pep440())
def test_the_key_orders_as_pep_440_does(a: str, b: str) -> None:
    left, right = parse_version(a), parse_version(b)
    assert (left < right) == (Pep440(a) < Pep440(b))
    assert (left == right) == (Pep440(a) == Pep440(b))
    assert left.key.isdigit()


def test_ten_is_newer_than_nine_and_a_candidate_older_than_its_release() -> None:
    assert parse_version("1.10") > parse_version("1.9")
    assert parse_version("2.0rc1") < parse_version("2.0")
    assert parse_version("1.0") == parse_version("1.0.0")


@pytest.mark.parametrize("text", ["", "two", "1.0-", "v", "1..2", "1" * 200])
def test_an_unreadable_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(VersionError, match=text[:20] if text else "''"):
        parse_version(text)
