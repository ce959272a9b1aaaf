"""The first numbers of a report."""

from dataclasses import replace

from ptycho.core.reconstruction import Reconstruction
from ptycho.report.content import Content, bytes_in_words, key_numbers, length, name_of, photons


def test_the_first_numbers(content: Content) -> None:
    told = dict(key_numbers(content))
    assert told["Patterns"] == "25 of 16 × 16"
    assert told["Field of view"] == "1040 nm × 880 nm"  # 48 and 40 pixels lit, and 2 more on every side
    assert told["Object pixel"] == "20 nm"
    assert told["Probe"] == "2 modes"
    assert told["Photons per pattern"] == "102\u202f400"
    assert told["Resolution (half-bit)"].endswith(" nm")


def test_nothing_is_claimed_that_is_not_known(result: Reconstruction) -> None:
    assert result.trust is not None
    plain = replace(result, metadata={}, trust=replace(result.trust, dose="nominal"))
    told = dict(key_numbers(Content(plain)))
    assert name_of(plain) == "Reconstruction"
    assert told["Field of view"] == "52 × 44 px" and "Object pixel" not in told
    assert told["Photons per pattern"].endswith("(assumed)")
    assert "Resolution (half-bit)" not in told


def test_numbers_in_words() -> None:
    assert (length(2e-8, 300), length(2e-8, 3000), length(None, 2.5)) == ("6000 nm", "60 µm", "2.5 pixels")
    assert (photons(812.4), photons(2.5e8)) == ("812", "2.5 × 10⁸")
    assert (bytes_in_words(12), bytes_in_words(2345678)) == ("1 kB", "2.3 MB")
