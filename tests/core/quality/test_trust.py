"""Trust: 1 for a correct model at any dose, and every wrong input of a refinement shows."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from ptycho.core.physics.diffraction import diffract, far_field, fourier_shift, propagate_back
from ptycho.core.physics.patches import extract, extract_rounded
from ptycho.core.physics.poisson import exact_moments
from ptycho.core.physics.probes import orthogonal_modes, zone_plate_probe
from ptycho.core.physics.recording import Recording
from ptycho.core.quality.foretold import Foretold
from ptycho.core.quality.trust import NOISE, USABLE, Trust
from ptycho.core.refinement.trust import measure_trust
from ptycho.core.simulation.objects import make_object
from ptycho.errors import DataError

N, MARGIN = 32, 6


def probe_of(defocus: float) -> np.ndarray:
    """Some 12 pixels across at a defocus of 1.3."""
    return zone_plate_probe(N, 7, defocus=defocus)


@dataclass(frozen=True)
class Scan:
    """Patterns as the roots of counts, and the truth behind them."""

    diffraction: np.ndarray
    probe: np.ndarray
    xcoords: np.ndarray
    ycoords: np.ndarray
    object: np.ndarray


def scan_of(photons: float, probe: np.ndarray | None = None, side: int = 8, step: float = 3.0) -> Scan:
    """Some 64 overlapping patterns of an object of lines, with so many photons on average."""
    rng = np.random.default_rng(5)
    probe = probe_of(1.3) if probe is None else probe
    size, half = round(probe.shape[-1] + 4 + step * (side - 1)), probe.shape[-1] / 2
    truth = make_object("lines", (size, size), rng)
    x, y = (half + 2 + step * a.ravel() for a in np.meshgrid(np.arange(side), np.arange(side)))
    x, y = (a + rng.uniform(-1.2, 1.2, a.shape) for a in (x, y))
    expected = diffract(probe.astype(complex), *extract_rounded(truth, x, y, probe.shape[-1]))
    unit = photons / expected.sum(axis=(1, 2)).mean()
    counts = rng.poisson(unit * expected)
    return Scan(np.sqrt(counts).astype(np.float32), (np.sqrt(unit) * probe).astype(np.complex64), x, y, truth)


def trust_of(scan: Scan, **changes) -> Trust:
    """The true object, or what else is given, against the patterns of a scan."""
    arguments = {
        "object": scan.object,
        "probe": scan.probe,
        "xcoords": scan.xcoords,
        "ycoords": scan.ycoords,
        "amplitude": lambda j: scan.diffraction[j],
        "photon_scale": 1.0,
        "dose": "measured",
    }
    return measure_trust(**{**arguments, **changes})


class TestCorrectModel:
    def test_a_background_is_part_of_the_model(self):
        scan, background = scan_of(1e4), np.linspace(0, 20, N * N).reshape(N, N)
        counts = scan.diffraction.astype(float) ** 2 + np.random.default_rng(6).poisson(
            background, scan.diffraction.shape
        )
        lit = replace(scan, diffraction=np.sqrt(counts))
        assert trust_of(lit).overall_ratio > 3
        assert trust_of(lit, recording=Recording(background=background)).overall_ratio == pytest.approx(1, abs=0.03)

    @pytest.mark.parametrize("photons", [1e2, 1e3, 1e4, 1e6, 1e9])
    def test_ratio_is_1_at_any_dose(self, photons):
        found = trust_of(scan_of(photons))
        assert abs(found.overall_z) < 3 and found.overall_ratio == pytest.approx(1, abs=0.03)
        assert found.z.std() == pytest.approx(1, abs=0.3) and np.abs(found.z).max() < 5
        assert found.model_error < found.model_error_limit < 0.3 * found.noise_level
        assert found.unexplained < 0.1 or photons < 1e4  # less light says nothing about the structure
        assert found.outliers.size == 0
        assert found.verdict.startswith("explains the data to the noise: model error below ")

    def test_the_reference_scan_of_64_pixels(self):
        scan = scan_of(1e9, zone_plate_probe(64), side=4, step=8.0)
        assert trust_of(scan).overall_ratio == pytest.approx(1, abs=0.01)

    def test_modes(self):
        scan = scan_of(1e5, orthogonal_modes(probe_of(1.3), (0.7, 0.2, 0.1)))
        found = trust_of(scan)
        assert abs(found.overall_z) < 3 and found.overall_ratio == pytest.approx(1, abs=0.03)
        assert trust_of(scan, probe=scan.probe[0]).overall_ratio > 20

    @pytest.mark.parametrize("each", [False, True])
    def test_a_mask_leaves_pixels_out(self, rng, each):
        """What masked pixels hold, and what is expected of them, counts for nothing."""
        mask = rng.random((64, N, N) if each else (N, N)) < 0.5
        scan = scan_of(1e5)
        wild = np.where(mask, scan.diffraction, np.nan)
        found = trust_of(scan, amplitude=lambda j: wild[j], mask=mask)
        assert abs(found.overall_z) < 3 and found.overall_ratio == pytest.approx(1, abs=0.03)
        assert found.counts.sum() == pytest.approx(np.sum(scan.diffraction.astype(float) ** 2 * mask))

    def test_the_unit_of_the_amplitudes_does_not_matter(self):
        scan = scan_of(1e4)
        one = trust_of(scan)
        other = trust_of(
            scan, amplitude=lambda j: 0.01 * scan.diffraction[j], probe=0.01 * scan.probe, photon_scale=1e4
        )
        for name in ("deviance", "expected", "misfit", "uniform", "counts"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-3, err_msg=name)

    def test_pattern_by_pattern_as_by_hand(self):
        scan = scan_of(30.0)
        found = trust_of(scan)
        patches, dx, dy = extract_rounded(scan.object, scan.xcoords, scan.ycoords, N)
        for j in (0, 41):
            wave = fourier_shift(scan.probe.astype(complex), dx[j], dy[j]) * patches[j]
            expected, counts = (np.abs(far_field(wave)) ** 2).ravel(), scan.diffraction[j].ravel().astype(float) ** 2
            terms = counts * np.log(np.maximum(counts, 1e-30) / expected) - counts + expected
            assert found.deviance[j] == pytest.approx(2 * terms.sum(), rel=1e-4)
            mean, variance, misfit = exact_moments(np.maximum(expected, 1e-20)).sum(axis=0)
            assert found.expected[j] == pytest.approx(mean, rel=1e-4)
            assert found.deviation[j] == pytest.approx(np.sqrt(variance), rel=1e-4)
            assert found.noise[j] == pytest.approx(misfit, rel=1e-4)
            assert found.misfit[j] == pytest.approx(np.sum((np.sqrt(counts) - np.sqrt(expected)) ** 2), rel=1e-4)


def test_a_small_model_error_weighs_with_the_dose():
    """Bilinear patches: lost in the noise of 1e4 photons, far out of that of 1e9."""
    found = {}
    for photons in (1e4, 1e9):
        scan = scan_of(photons)
        expected = diffract(scan.probe.astype(complex), extract(scan.object, scan.xcoords, scan.ycoords, N))
        measured = np.sqrt(np.random.default_rng(0).poisson(expected))
        found[photons] = trust_of(replace(scan, diffraction=measured))
    assert found[1e4].overall_ratio < 1.1
    assert found[1e4].verdict.startswith("explains the data to the noise: ")
    assert found[1e9].overall_ratio > 30 and 0.003 < found[1e9].model_error < 0.02
    assert found[1e9].verdict.startswith("usable, not quantitative; does not explain the data to the noise: ")


def refined(scan: Scan, iterations: int = 80) -> np.ndarray:
    """An object fitted to a scan from flat: the gradient of the amplitudes' misfit, preconditioned, accelerated."""
    shape = scan.object.shape
    x0, y0 = (np.rint(a).astype(int) for a in (scan.xcoords, scan.ycoords))
    probes = fourier_shift(scan.probe, scan.xcoords - x0, scan.ycoords - y0)
    corner = (y0 - N // 2) * shape[1] + x0 - N // 2
    index = corner[:, None, None] + np.arange(N)[:, None] * shape[1] + np.arange(N)

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(index.ravel(), values.ravel(), shape[0] * shape[1]).reshape(shape)

    light = added(np.abs(probes) ** 2)
    step = 1 / (light + 0.02 * light.max())
    here = ahead = np.ones(shape, np.complex64)
    pace, last = 1.0, np.inf
    for _ in range(iterations):
        field = far_field(probes * ahead.ravel()[index])
        modulus = np.abs(field) + 1e-6
        error = np.sum((modulus - scan.diffraction) ** 2)
        if error > last:
            ahead, pace, last = here, 1.0, np.inf
            continue
        last = error
        slope = probes.conj() * propagate_back(field * (1 - scan.diffraction / modulus))
        former, here = here, (ahead - step * (added(slope.real) + 1j * added(slope.imag))).astype(np.complex64)
        next_pace = (1 + np.sqrt(1 + 4 * pace**2)) / 2
        ahead, pace = (here + (pace - 1) / next_pace * (here - former)).astype(np.complex64), next_pace
    return here


def inputs(scan: Scan) -> Scan:
    """The scan with a margin of object around it, as whoever does not know the truth would lay it out."""
    x, y = scan.xcoords + MARGIN, scan.ycoords + MARGIN
    return replace(scan, xcoords=x, ycoords=y, object=np.pad(scan.object, MARGIN, constant_values=1))


def about(centre: float, coords: np.ndarray, factor: float) -> np.ndarray:
    return centre + factor * (coords - centre)


MIDDLE = 57 / 2 + MARGIN
FAULTS: dict[str, Callable[[Scan], Scan]] = {
    "x mirrored": lambda s: replace(s, xcoords=about(MIDDLE, s.xcoords, -1)),
    "y mirrored": lambda s: replace(s, ycoords=about(MIDDLE, s.ycoords, -1)),
    "x and y swapped": lambda s: replace(s, xcoords=s.ycoords, ycoords=s.xcoords),
    "detector transposed": lambda s: replace(s, diffraction=s.diffraction.swapaxes(1, 2)),
    "half the defocus": lambda s: replace(s, probe=other_probe(s, 0.65)),
    "twice the defocus": lambda s: replace(s, probe=other_probe(s, 2.6)),
}


def other_probe(scan: Scan, defocus: float) -> np.ndarray:
    wrong = probe_of(defocus)
    return wrong * (np.linalg.norm(scan.probe) / np.linalg.norm(wrong))


@pytest.fixture(scope="module")
def bright() -> Scan:
    return inputs(scan_of(1e6))


@pytest.fixture(scope="module")
def correct(bright: Scan) -> Trust:
    return trust_of(bright, object=refined(bright))


class TestAfterRefinement:
    """The object makes up for a wrong input as far as it can; what it cannot make up for has to show."""

    def test_the_correct_inputs(self, correct):
        assert 0.8 < correct.overall_ratio < 1.15
        assert correct.verdict.startswith("explains the data to the noise")

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_wrong_input_is_named(self, bright, correct, fault):
        wrong = FAULTS[fault](bright)
        found = trust_of(wrong, object=refined(wrong))
        assert found.overall_ratio > 8 * correct.overall_ratio
        assert found.unexplained > 1.1 * USABLE
        assert found.verdict.startswith("does not explain the data: model error ")

    @pytest.mark.parametrize("factor", [0.95, 1.05])
    def test_a_wrong_pixel_size_shows_at_a_high_dose(self, factor):
        """An object takes most of a change of scale: what is left is as small as a wrong interpolation."""
        scan = inputs(scan_of(1e8))
        wrong = replace(scan, xcoords=about(MIDDLE, scan.xcoords, factor), ycoords=about(MIDDLE, scan.ycoords, factor))
        correct, found = (trust_of(each, object=refined(each, 160)) for each in (scan, wrong))
        assert found.overall_ratio > 4 * correct.overall_ratio and found.overall_ratio > 4 * NOISE
        assert "does not explain the data to the noise: " in found.verdict


class TestOutliers:
    def test_a_bad_frame_and_a_shifted_position_are_listed(self):
        scan = inputs(scan_of(1e6))
        patterns, x = scan.diffraction.copy(), scan.xcoords.copy()
        patterns[17] = patterns[40]
        x[50] += 1.5
        wrong = replace(scan, diffraction=patterns, xcoords=x)
        for image in (scan.object, refined(wrong)):
            found = trust_of(wrong, object=image)
            assert set(found.outliers[:2]) == {17, 50}
            assert f"patterns stand out of the scan: {found.outliers[0]} (" in found.verdict
        assert found.ratio[17] > 5 * np.median(found.ratio)

    def test_patterns_without_a_valid_pixel_are_no_outliers(self):
        scan = scan_of(1e4)
        found = trust_of(scan, mask=np.arange(64)[:, None, None] > 2 * np.ones((N, N)))
        assert (found.ratio[:3] == 1).all() and (found.z[:3] == 0).all() and found.outliers.size == 0

    def test_those_that_are_explained_all_the_same_are_no_bad_frames(self):
        """In a green verdict, where what is left is little beside the structure; else each is named."""
        ratio = np.r_[np.full(293, 1.0), np.arange(2, 9)]
        bright = replace(plain_trust(ratio), noise=np.full(300, 1e-6), counts=np.full(300, 1e3))
        for misfit, said in (
            (0.1, "7 of 300 patterns leave up to 8 x what the rest does, and are explained all the same, to 1 %"),
            (90.0, "7 of 300 patterns stand out of the scan: 299 (8 x)"),
        ):
            found = replace(bright, misfit=np.where(ratio > 1, misfit, 1e-6), uniform=np.full(300, 1e3))
            assert found.grade == "to the noise" and said in found.verdict

    def test_no_more_than_five_are_named(self):
        ratio = np.r_[np.full(93, 1.0), np.arange(2, 9)]
        found = plain_trust(ratio)
        assert (
            "; 7 of 100 patterns stand out of the scan: 99 (8 x), 98 (7 x), 97 (6 x), 96 (5 x), 95 (4 x) and 2 more"
            in (found.verdict)
        )


def plain_trust(ratio: np.ndarray, dose: str = "measured") -> Trust:
    """1000 bright pixels per pattern: deviance 1000 times the ratio."""
    each = np.full(len(ratio), 1000.0)
    return Trust(1000 * ratio, each, np.sqrt(2 * each), 250 * ratio, each / 4, 25 * each, 1e4 * each, dose)


class TestVerdict:
    def test_with_numbers(self):
        found = plain_trust(np.full(9, 5.0))
        assert found.overall_ratio == 5 and found.overall_z == pytest.approx(3 * 4000 / np.sqrt(2000))
        assert found.noise_level == pytest.approx(0.005) and found.model_error == pytest.approx(0.01)
        assert found.fourier_error == pytest.approx(125e-6)
        assert found.unexplained == pytest.approx(np.sqrt(1000 / 24750))
        assert found.verdict == (
            "usable, not quantitative; does not explain the data to the noise: model error 1 % of the amplitude, noise "
            "0.5 %, 20 % of the structure unexplained"
        )

    def test_a_dose_that_is_not_known_is_said_so(self):
        found = plain_trust(np.full(9, 5.0), "nominal")
        assert found.verdict == (
            "cannot tell noise from model error, the dose is not known: amplitudes differ by 1.1 %; at the nominal "
            "dose 20 % of the structure unexplained"
        )

    def test_parts_have_to_belong_together(self):
        with pytest.raises(DataError, match="expected one number per pattern"):
            replace(plain_trust(np.ones(3)), noise=np.ones(2))
        with pytest.raises(DataError, match="found 'guessed'"):
            replace(plain_trust(np.ones(3)), dose="guessed")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photon_scale": 0.0}, "photon_scale: expected a positive number, found 0"),
        ({"mask": np.zeros((N, N), bool)}, "expected light in the valid pixels of 64 patterns"),
        ({"xcoords": np.zeros(0), "ycoords": np.zeros(0)}, "of 0 patterns, found none"),
    ],
)
def test_what_cannot_be_judged_is_refused(change, message):
    with pytest.raises(DataError, match=message):
        trust_of(scan_of(1e3), **change)


class TestWhatDecides:
    """A green verdict needs unseen patterns to be foretold, no fault, and no less left than noise leaves."""

    def told(self, share: float) -> Foretold:
        noise, blank = np.full(3, 2.0), np.full(3, 102.0)
        return Foretold(np.arange(3), blank - share * (blank - noise), noise, blank, np.full(3, 0.5))

    @pytest.mark.parametrize(("share", "grade"), [(0.1, "fails"), (0.3, "usable"), (0.9, "to the noise")])
    def test_unseen_patterns(self, share, grade):
        found = replace(plain_trust(np.ones(9)), foretold=self.told(share))
        assert found.grade == grade
        said = "10 % of the structure of 3 that were kept back" if share == 0.1 else "of the structure of 3 unseen"
        assert said in found.verdict and found.verdict.startswith("means nothing: ") == (grade == "fails")

    def test_no_more_is_foretold_than_all(self):
        found = replace(plain_trust(np.ones(9)), foretold=self.told(1.13))
        assert "100 % of unseen patterns foretold" in found.summary and "100 % of the structure" in found.verdict

    def test_nothing_to_foretell_is_not_green(self):
        dim = Foretold(*(np.arange(3), np.full(3, 2.0), np.full(3, 2.0), np.full(3, 2.5)), np.full(3, 0.5))
        found = replace(plain_trust(np.ones(9)), foretold=dim)
        assert found.grade == "usable" and "have nothing above the noise to be foretold" in found.verdict
        assert "nothing in unseen patterns above the noise" in found.summary and "nan" not in found.summary
        assert "unseen" not in replace(found, foretold=None).summary

    def test_a_fault_and_the_next_step_end_the_sentence(self):
        found = replace(plain_trust(np.ones(9)), faults=("the beam fell",), advice="do this")
        assert found.grade == "usable" and found.verdict.endswith("; the beam fell; do this")

    def test_less_than_noise_is_left(self):
        """So many numbers were fitted that the noise was, or the values are not photons."""
        found = plain_trust(np.full(9, 0.4))
        assert found.grade == "usable" and "better than photon noise allows" in found.verdict
        assert plain_trust(np.full(9, 0.7)).grade == "to the noise"

    def test_an_error_that_does_not_matter_at_a_high_dose(self):
        """Far out of the noise, but the structure is explained."""
        found = replace(plain_trust(np.full(9, 3.0)), uniform=np.full(9, 2.5e6))
        assert found.unexplained < 0.02 and found.grade == "to the noise"
        assert found.verdict.startswith("explains the data to 0.71 % of the amplitude: ")

    def test_nothing_explained_is_said_in_words(self):
        found = replace(plain_trust(np.full(9, 400.0)), uniform=np.full(9, 1e4))
        assert found.unexplained == 1 and "nothing of the structure explained" in found.verdict
        assert "e+" not in found.verdict + found.summary

    def test_patterns_that_were_not_reached_do_not_count(self):
        ratio = np.r_[np.ones(8), 1000.0]
        found = plain_trust(ratio).only(np.arange(9) < 8)
        assert found.grade == "to the noise" and found.ratio[8] == 1 and not found.outliers.size
