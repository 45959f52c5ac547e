"""From one format to the next and back."""

import pytest

from peerupgrade.core.requests import Stored
from peerupgrade.core.versions import parse_version
from peerupgrade.data.formats import Formats
from peerupgrade.errors import ConfigError, DataError


def three():
    formats = Formats("notes")
    formats.register("1.0", None, None, None, None)
    formats.register("2.0", None, None, lambda text: [text], lambda lines: lines[0])
    formats.register(
        "3.0",
        lambda value: {"lines": list(value)},
        lambda plain: tuple(plain["lines"]),
        tuple,
        list,
    )
    return formats


def stored(formats, value, given, wanted):
    return Stored(wanted, 1, formats.encode(value, given, wanted))


@pytest.mark.parametrize("wanted", ["1.0", "2.0", "3.0"])
@pytest.mark.parametrize(("given", "value"), [("1.0", "x"), ("2.0", ["x"]), (None, ("x",))])
def test_every_format_is_written_from_every_other_and_read_as_the_newest(wanted, given, value):
    formats = three()
    record = stored(formats, value, given, wanted)
    assert formats.decode(record) == ("x",)
    done = formats.convert("k", record, "3.0")
    assert (done.error, formats.decode(Stored("3.0", 1, done.payload))) == ("", ("x",))


def test_the_format_of_an_operating_version():
    assert three().at(parse_version("2.7")) == "2.0"
    with pytest.raises(DataError, match=r"no format for version 0\.9"):
        three().at(parse_version("0.9"))


def test_what_fails_is_said_and_not_raised():
    formats = Formats("notes")
    formats.register("1.0", None, None, None, None)
    formats.register("2.0", None, None, lambda text: text.upper(), None)
    done = formats.convert("k", stored(formats, 5, "1.0", "1.0"), "2.0")
    assert (done.key, done.stamp, done.payload) == ("k", 1, b"")
    assert done.error == "AttributeError: 'int' object has no attribute 'upper'"
    assert "no msgpack" in formats.convert("k", Stored("1.0", 1, b"\xc1"), "2.0").error
    unknown = formats.convert("k", Stored("0.5", 1, b""), "2.0").error
    assert "format 0.5 of 'notes' is not known here, known are: 1.0, 2.0" in unknown


def test_formats_are_registered_in_order_and_with_a_way_to_them():
    formats = three()
    with pytest.raises(ConfigError, match=r"comes after 3\.0"):
        formats.register("2.5", None, None, list, None)
    with pytest.raises(ConfigError, match="has no upgrade"):
        formats.register("4.0", None, None, None, None)
