"""A scan in memory: patterns as they were given, positions, probe, and the groups that networks train on."""

from __future__ import annotations

import copy
import hashlib
import logging
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho import params
from ptycho.config.options import NEUTRAL_GROUPS, NEUTRAL_SCALES, GroupOptions, ScaleOptions
from ptycho.core.files.scratch import taken
from ptycho.core.formats.opening import MemoryMap, load_record, load_scan
from ptycho.core.formats.record import ScanRecord
from ptycho.core.formats.scan_npz import file_metadata, plain_metadata
from ptycho.core.geometry import FramedOffsets, group_coordinates, member_positions
from ptycho.core.groups.grouped_data import GroupedData
from ptycho.core.groups.grouping import make_groups, seed_points
from ptycho.core.physics.detector_blur import check_blur
from ptycho.core.physics.diffraction import as_modes
from ptycho.core.physics.near_field import NearField
from ptycho.core.physics.probes import without_ramp
from ptycho.core.physics.recording import Recording, check_background, check_flux
from ptycho.core.physics.scan_probes import ScanProbes
from ptycho.core.provenance import known_metadata, scan_source
from ptycho.core.result import Pictured, plural
from ptycho.core.scaling import (
    Units,
    frame_blocks,
    input_scale,
    largest_amplitude,
    mean_energy,
    photons_per_frame,
    recorded_photons,
    to_amplitude,
)
from ptycho.core.scan.identity import ScanIdentity, scan_identity
from ptycho.core.scan.npz_file import ScanFile, write_scan
from ptycho.core.scan.scan import check_probe_shape, check_shapes, check_square, no_probe
from ptycho.core.scan.share import Frames
from ptycho.core.scan.subtracted import subtracted_background
from ptycho.core.scan_edit.fit_detector import fitted
from ptycho.core.scan_edit.points import turned_positions
from ptycho.core.simulation.exposure import ScanPlan, expose
from ptycho.core.training.scales import Scales, measure_scales
from ptycho.core.unit_decision import UnitsDecision, decide_units
from ptycho.errors import ConfigError, DataError

__all__ = ["RawData"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]


class RawData(Pictured):
    """A scan of n patterns of N x N pixels. Nothing is converted or copied until it is asked for.

    Args:
        xcoords, ycoords: (n,) centre of each patch, pixels of the object grid; kept as float64.
        xcoords_start, ycoords_start: (n,) positions at the start of each exposure, the true ones where a
            file has them; None where they are the same.
        diff3d: (n, N, N) amplitude or photon counts, any real type or a memory map, zero frequency at
            [N/2, N/2]; kept as given.
        probeGuess: (N, N) or (M, N, N) complex, kept as given; None where the scan has no probe.
        scan_index: (n,) integers; None is all 0.
        objectGuess: (H, W) complex.
        Y: (n, N, N) complex ground-truth patches.
        mask: (N, N) or (n, N, N), True where the detector pixel is valid.
        metadata: plain JSON values, among them, where they are known, `name`, `energy_eV`, `distance_m`,
            `detector_pixel_m`, `object_pixel_m` (in a scan file under the names of specs/data_contracts.md, which are
            taken too) and `nphotons`, the mean number of photons per pattern.
        units: 'amplitude' or 'counts' when the caller knows; else `decide_units` finds out on first use.
        flux: (n,) of the beam at each pattern, relative to that of the probe, above 0; None: 1.
        background: (N, N) that every pattern has beside what the object makes, squares of amplitudes (of counts, counts
            themselves), not negative, zero frequency at [N/2, N/2]; None: 0.
        blur: standard deviation of the blur of the detector, pixels (`ptycho.core.physics.detector_blur`), by which the
            light of the object is convolved before a background comes to it; None, or 0: it is sharp.

    What is known of flux, background and blur goes to networks and to refinements with the patterns; a scan file has
    none of them.

    `scans` are those that it was joined of (`ptycho.workflows.shared_object`), none for one scan; `scan_probes` the
    probes of all but the first, where each has its own.

    Raises:
        DataError: arrays that do not fit together.
    """

    def __init__(
        self,
        xcoords: ArrayLike,
        ycoords: ArrayLike,
        xcoords_start: ArrayLike | None,
        ycoords_start: ArrayLike | None,
        diff3d: ArrayLike,
        probeGuess: ArrayLike | None,
        scan_index: ArrayLike | None = None,
        objectGuess: ArrayLike | None = None,
        Y: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        metadata: dict[str, Any] | None = None,
        units: str | None = None,
        flux: ArrayLike | None = None,
        background: ArrayLike | None = None,
        blur: float | None = None,
    ) -> None:
        self.xcoords = np.asarray(xcoords, np.float64)
        self.ycoords = np.asarray(ycoords, np.float64)
        self.xcoords_start = self.xcoords if xcoords_start is None else np.asarray(xcoords_start, np.float64)
        self.ycoords_start = self.ycoords if ycoords_start is None else np.asarray(ycoords_start, np.float64)
        self.diff3d: Array = np.asanyarray(diff3d)
        self._probe = _optional(probeGuess)
        self.scan_index = np.zeros(len(self.xcoords), np.int64) if scan_index is None else np.asarray(scan_index)
        self.objectGuess = _optional(objectGuess)
        self.Y = _optional(Y)
        self.mask = None if mask is None else np.asanyarray(mask, bool)
        self.metadata = plain_metadata(metadata)
        self.sample_indices: NDArray[np.int64] | None = None
        self._declared = units
        self.scan_probes: ScanProbes | None = None
        self.scans: tuple[RawData, ...] = ()
        self.made_of: ScanIdentity | None = None
        self._path: Path | None = None
        self._decision: UnitsDecision | None = None
        self._mean_energy: float | None = None
        self._added: tuple[NDArray[np.float64] | None] | None = None
        check_shapes(self._as_file(units))
        check_square(self._as_file(units))
        self.flux = None if flux is None else check_flux(flux, len(self))
        self._background = None if background is None else check_background(background, self.N)
        self.blur = None if blur is None else check_blur(blur, self.N) or None

    @classmethod
    def from_file(
        cls, path: Path | str, units: str | None = None, memory_map: MemoryMap = "auto", crop: int | None = None
    ) -> RawData:
        """Read and check a scan (specs/data_contracts.md), of any size where its frames stay on disk.

        Frames are the patterns, `Y` and a mask per pattern. On disk they are read-only memory maps: of the file itself
        where they lie in it plainly (NPZ without compression, HDF5 without chunks), else of the scan map beside it
        (`ptycho dataset map`), else of a temporary copy, with a logged advice.

        Args:
            path: NPZ file, scan map, or a file of another format that has patterns and positions (specs/formats.md).
                Patterns of a detector that is not square, or of a side without a fast transform, are cropped or
                widened (`ptycho.core.scan_edit.fit_detector`); a logged line says how.
            units: 'amplitude' or 'counts', instead of what the file says or leaves open.
            memory_map: 'always' leaves frames on disk, 'never' reads them into memory, 'auto' leaves them where the
                patterns are larger than `ptycho.core.formats.opening.MEMORY_MAP_BYTES`, 1 GiB.
            crop: side of the square of detector pixels to keep; None keeps all, or goes by the light as said above.

        Raises:
            ConfigError: another `memory_map`, or a crop that cannot be.
            MissingFileError, DataError: one line that names the file; also for a scan map that is older than its scan.
            OutputError: no room for the temporary copy.
        """
        return cls._read(load_scan(Path(path), units, memory_map), Path(path), crop)

    @classmethod
    def from_record(
        cls,
        record: ScanRecord,
        path: Path | str,
        units: str | None = None,
        memory_map: MemoryMap = "auto",
        crop: int | None = None,
    ) -> RawData:
        """A scan that was put together (`ptycho.core.formats.assembled`), as `from_file` gives one.

        Args:
            record: patterns, positions and whatever else is known.
            path: of its patterns, or what stands for it in reports and errors.
            units, memory_map, crop: as in `from_file`.
        """
        return cls._read(load_record(record, path, units, memory_map), Path(path), crop)

    @classmethod
    def _read(cls, scan: ScanFile, path: Path, crop: int | None) -> RawData:
        """A scan that was read from `path`, at a side that the solver takes."""
        raw = cls._of(*fitted(scan, crop), scan, path.name)
        raw._path = path
        return raw

    def fitted(self, crop: int | None = None, bin: int = 1, sizes: Sequence[int] | None = None) -> RawData:
        """This scan with square patterns of another side, as `ptycho.core.scan_edit.fit_detector.fitted` makes them.

        What is done is logged. The scan itself, where nothing is.

        Args:
            crop: side of the square of detector pixels to keep, before they are binned; None goes by the light.
            bin: `bin` x `bin` detector pixels become one, and a known blur `1 / bin` of what it was.
            sizes: sides to choose from; None takes any with a fast transform.

        Raises:
            ConfigError: a crop or a bin that cannot be.
            DataError: patterns to bin in unknown units; a known background, probes of several scans, or a known
                blur too wide for what is left.
        """
        scan = self._as_file(self._declared if self._decision is None else self._decision.units)
        made, sentences = fitted(scan, crop, bin, sizes)
        if not sentences:
            return self
        if self._background is not None:
            raise DataError(
                f"background: expected patterns that stay as they are, {self.N} x {self.N}, found some to be cropped "
                "or binned; do that first (RawData.fitted), and find the background of what is left"
            )
        if self.scan_probes is not None:
            raise DataError(
                f"scans: expected patterns that stay as they are, {self.N} x {self.N}, found some to be cropped or "
                "binned, and a probe of each scan; fit every scan (RawData.fitted) before they are joined"
            )
        raw = RawData._of(made, sentences, scan, self.name)
        raw._path, raw.flux = self._path, self.flux
        if self.blur is not None:
            raw.blur = check_blur(self.blur / bin, raw.N)
        if self.made_of is not None:
            raw.made_of = self.made_of.derived("; ".join(sentences))
        return raw

    @classmethod
    def _of(cls, made: ScanFile, sentences: tuple[str, ...], scan: ScanFile, name: str) -> RawData:
        """The scan that was made of `scan`, which it has the identity of, derived."""
        raw = cls(**vars(made))
        for sentence in sentences:
            logger.info("%s: %s", name, sentence)
        if sentences:
            raw.made_of = scan_identity(scan, name).derived("; ".join(sentences))
        return raw

    @classmethod
    def from_simulation(
        cls,
        xcoords: ArrayLike,
        ycoords: ArrayLike,
        probeGuess: ArrayLike,
        objectGuess: ArrayLike,
        scan_index: ArrayLike | None = None,
        *,
        nphotons: float | None = None,
        rng: np.random.Generator | None = None,
        units: Units = "amplitude",
        mask: NDArray[np.bool_] | None = None,
    ) -> RawData:
        """Record a scan of a given object with a given probe.

        Args:
            xcoords, ycoords: (n,) centre of each patch, pixels of the object.
            probeGuess: (N, N) or (M, N, N) complex, of any energy; it is scaled to the dose.
            objectGuess: (H, W) complex transmission.
            scan_index: (n,) as of the class.
            nphotons: mean number of photons per pattern; None takes `params.cfg['nphotons']`.
            rng: source of the photon noise; None draws other photons each time.
            units: 'amplitude' stores the root of the counts, 'counts' the counts.
            mask: (N, N), True where the detector pixel is valid.

        Raises:
            ConfigError, DataError: as `ptycho.core.simulation.exposure.expose`.
        """
        dose = float(params.get("nphotons")) if nphotons is None else nphotons
        x, y = np.asarray(xcoords, np.float64), np.asarray(ycoords, np.float64)
        plan = ScanPlan(np.asarray(objectGuess), np.asarray(probeGuess), x, y, dose, units, mask)
        scan = expose(plan, np.random.default_rng() if rng is None else rng)
        return cls(
            *(scan.xcoords, scan.ycoords, None, None, scan.diffraction, scan.probe, scan_index, scan.object),
            mask=scan.mask,
            metadata={"nphotons": scan.recorded},
            units=scan.units,
        )

    @classmethod
    def from_coords_without_pc(
        cls,
        xcoords: ArrayLike,
        ycoords: ArrayLike,
        diff3d: ArrayLike,
        probeGuess: ArrayLike | None,
        scan_index: ArrayLike | None,
        objectGuess: ArrayLike | None = None,
        units: str | None = None,
    ) -> RawData:
        """A scan whose true positions are the nominal ones; arguments as in the class."""
        return cls(xcoords, ycoords, None, None, diff3d, probeGuess, scan_index, objectGuess, units=units)

    def to_file(self, path: Path | str) -> None:
        """Write a scan file, whole or not at all, with the units in it."""
        if self._told:
            known = " and no ".join(self._told)
            logger.warning("%s: a scan file has no %s; what is known is left out of %s", self.name, known, path)
        write_scan(path, self._as_file(self.units))

    def save(self, path: Path | str) -> Path:
        """`to_file`, as every result is saved: write a scan file (NPZ) and return its path."""
        self.to_file(path)
        return Path(path)

    def scan_file(self) -> ScanFile:
        """The scan as the plain arrays of a file, with the units that were stated; nothing is copied."""
        return self._as_file(self._declared)

    def __repr__(self) -> str:
        units = self._declared if self._decision is None else self._decision.units
        known = [
            f"{plural(len(self), 'pattern')} of {self.N} x {self.N}",
            f"{self.diff3d.dtype} {units or '(units not looked at yet)'}",
            "no probe" if self._probe is None else plural(len(as_modes(self._probe)), "probe mode"),
        ]
        if self.objectGuess is not None:
            known.append("object {} x {}".format(*self.objectGuess.shape[-2:]))
        if self.mask is not None:
            known.append("masked")
        known += [f"known {name}" for name in self._told]
        if self._path is not None:
            known.append(f"from {self._path.name}")
        return f"RawData({', '.join(known)})"

    def _as_file(self, units: str | None) -> ScanFile:
        same = self.xcoords_start is self.xcoords and self.ycoords_start is self.ycoords
        return ScanFile(
            diff3d=self.diff3d,
            xcoords=self.xcoords,
            ycoords=self.ycoords,
            probeGuess=self._probe,
            xcoords_start=None if same else self.xcoords_start,
            ycoords_start=None if same else self.ycoords_start,
            scan_index=self.scan_index,
            objectGuess=self.objectGuess,
            Y=self.Y,
            mask=self.mask,
            metadata=file_metadata(self.metadata),
            units=units,
        )

    def __len__(self) -> int:
        return len(self.xcoords)

    @property
    def has_probe(self) -> bool:
        """Whether the scan has a probe; `with_probe` gives it one."""
        return self._probe is not None

    @property
    def probeGuess(self) -> Array:
        """(N, N) or (M, N, N), as given.

        Raises:
            DataError: the scan has none.
        """
        if self._probe is None:
            error = no_probe("SCAN" if self._path is None else shlex.quote(str(self._path)))
            raise DataError(f"{self._path or 'scan'}: {error}")
        return self._probe

    @probeGuess.setter
    def probeGuess(self, probe: ArrayLike) -> None:
        self._probe = np.asanyarray(probe)

    @property
    def near_field(self) -> NearField | None:
        """How waves go to a near detector, by the metadata (`near_field`); None where it is far away."""
        return NearField.of(self.metadata)

    @property
    def recording(self) -> Recording:
        """How the patterns were recorded, as far as that is known."""
        return Recording(self.flux, background=self.background, near_field=self.near_field, blur=self.blur)

    @property
    def _told(self) -> dict[str, Any]:
        """What was given of the recording, by name."""
        return Recording(self.flux, background=self._background, blur=self.blur).known

    @property
    def name(self) -> str:
        """The name of the file that the scan was read from, or 'scan'."""
        return "scan" if self._path is None else self._path.name

    @property
    def path(self) -> Path | None:
        """The file that the scan was read from; None where it was not."""
        return self._path

    @property
    def known_metadata(self) -> dict[str, Any]:
        """Name, dose and geometry, as a result keeps them (`ptycho.core.provenance.known_metadata`)."""
        return known_metadata(self.metadata, self.N, "scan" if self._path is None else self._path.stem)

    @property
    def source(self) -> dict[str, Any]:
        """What tells this scan from others in a provenance block (`ptycho.core.provenance.scan_source`)."""
        return scan_source(self._path, self.identity)

    @property
    def identity(self) -> ScanIdentity:
        """What tells this scan from others; `made_of`, where a program set that, else its content."""
        name = "a scan in memory" if self._path is None else self._path.name
        return self.made_of or scan_identity(self._as_file(self.units), name)

    @property
    def recorded_identity(self) -> ScanIdentity:
        """`identity`, or where flux, background or blur are known that of the scan with them."""
        known = self._told
        if not known:
            return self.identity
        digest = hashlib.sha256(b"".join(name.encode() + np.asarray(of).tobytes() for name, of in known.items()))
        return self.identity.derived(f"with {' and '.join(known)} {digest.hexdigest()[:12]}")

    @property
    def N(self) -> int:
        """Side of a pattern, pixels."""
        return int(self.diff3d.shape[-1])

    @property
    def valid_mask(self) -> NDArray[np.bool_]:
        """(N, N) or (n, N, N), True where the pixel is valid; all True without a mask."""
        return np.ones((self.N, self.N), bool) if self.mask is None else self.mask

    @property
    def units_decision(self) -> UnitsDecision:
        """What the patterns hold and the numbers that say so; found once.

        Where no rule decides: amplitude with a warning for arrays, DataError for a file.
        """
        if self._decision is None:
            policy: Literal["error", "amplitude"] = "amplitude" if self._path is None else "error"
            try:
                self._decision = decide_units(self.diff3d, self._probe, self._declared, policy, self.mask)
            except DataError as error:
                raise DataError(f"{self._path or 'scan'}: {error}") from error
        return self._decision

    @property
    def units(self) -> Units:
        """'amplitude' or 'counts'."""
        return self.units_decision.units

    @property
    def mean_energy(self) -> float:
        """`mean_j sum A_j^2` over valid pixels, for counts the mean count; read once, in blocks."""
        if self._mean_energy is None:
            self._mean_energy = mean_energy(self.diff3d, self.mask, self.units)
        return self._mean_energy

    def input_scale(self) -> float:
        """Scale k = sqrt((N/2)^2 / mean energy) of this scan, for use without a model."""
        return input_scale(self.mean_energy, self.N)

    def scales(self, photons: float, options: ScaleOptions = NEUTRAL_SCALES) -> Scales:
        """All scales of this scan as a training set (`measure_scales`), for so many photons per pattern."""
        largest = None
        if options.data_scaling == "Max":
            largest = largest_amplitude(self.diff3d, self.mask, self.units)
        return measure_scales(self.mean_energy, photons, self.N, options, largest, self.probeGuess)

    def photons(self, configured: float | None = None) -> float:
        """Mean photons per pattern: measured with counts, else from the metadata, else `configured`."""
        photons = self.units_decision.photons
        recorded = None if self.units == "counts" and photons is not None else recorded_photons(self.metadata)
        return photons_per_frame(self.mean_energy, self.units, configured, recorded, photons)

    @property
    def background(self) -> NDArray[np.float64] | None:
        """(N, N) that `amplitude` has in its squares beside the light of the object, in their unit; None: nothing.

        What is known of it, else what `amplitude` adds.
        """
        return self.added if self._background is None else self._background

    @property
    def added(self) -> NDArray[np.float64] | None:
        """(N, N) of the background that is not in the patterns: `amplitude` adds it to their counts; None: nothing.

        Of counts that a background was subtracted from none of the noise is cut off at 0 then
        (`ptycho.core.scan.subtracted`), and a refinement adds it to what object and probe make. Found once.
        """
        if self._added is None:
            self._added = (subtracted_background(self.diff3d, self.mask, self.units),)
        return self._added[0]

    def recorded(self, recording: Recording) -> Recording:
        """A recording with what the scan itself knows of it: the near field, and the background where it has none."""
        background = self.background if recording.background is None else recording.background
        return replace(recording, near_field=self.near_field, background=background)

    def amplitude(self, indices: ArrayLike | None = None) -> NDArray[np.float32]:
        """Amplitudes (b, N, N) float32 of these patterns (None: all), 0 in invalid pixels.

        Counts of which a background was subtracted have one again (`background`).

        Raises:
            DataError: NaN or infinity in a valid pixel.
        """
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices).reshape(-1)
        out = np.empty((len(chosen), self.N, self.N), np.float32)
        for block in frame_blocks(len(chosen), self.N**2):
            values = to_amplitude(self.diff3d[chosen[block]], self.units, self.added)
            if self.mask is not None:
                values = np.where(self.mask[chosen[block]] if self.mask.ndim == 3 else self.mask, values, 0)
            bad = values.size - np.count_nonzero(np.isfinite(values))
            if bad:
                raise DataError(
                    f"diffraction: expected finite numbers, found {bad} NaN or infinite; repair or mask them"
                )
            out[block] = values
        return out

    def subsample(self, n: int, seed: int | None = None) -> RawData:
        """A scan of n patterns chosen at random, in scan order; `sample_indices` says which.

        It keeps the units decided from the whole scan; on its own it might say something else. Of a memory-mapped scan
        what is kept goes to a temporary file where it is above `ptycho.core.files.scratch.SCRATCH_BYTES`, 256 MiB.

        Args:
            n: number to keep; all are kept when there are fewer.
            seed: of the choice; None is 0.
        """
        if n < 1:
            raise ConfigError(f"n_subsample={n}: expected at least 1 pattern; raise it")
        if n > len(self):
            logger.info("subsample of %d asked for: all %d patterns are kept", n, len(self))
        rng = np.random.default_rng(0 if seed is None else seed)
        return self.part(np.sort(rng.choice(len(self), min(n, len(self)), replace=False)))

    def part(self, kept: NDArray[np.intp]) -> RawData:
        """A scan of the patterns of these indices (n,), of which holds what `subsample` says."""
        fields = vars(self._as_file(self._declared)).copy()
        masks = ("mask",) if self.mask is not None and self.mask.ndim == 3 else ()
        for key in ("xcoords", "ycoords", "xcoords_start", "ycoords_start", "diff3d", "scan_index", "Y", *masks):
            fields[key] = None if fields[key] is None else taken(fields[key], kept)
        part = RawData(**fields)
        part.scan_probes = None if self.scan_probes is None else self.scan_probes.of(kept)
        part.sample_indices = kept if self.sample_indices is None else self.sample_indices[kept]
        part._path, part._decision, part._added = self._path, self.units_decision, (self.added,)
        part.flux, part._background = None if self.flux is None else self.flux[kept], self._background
        part.blur = self.blur
        return part

    def shared(self, own: NDArray[np.int64], truth: bool = False) -> dict[str, Any]:
        """What `from_shared` makes this scan of in another process, which reads no patterns but these (k,).

        The object and `Y` go where the truth is needed.
        """
        plain = vars(self._as_file(self.units)).copy()
        if not truth:
            plain |= {"objectGuess": None, "Y": None}
        stacks = {}
        for key in ("diff3d", "Y", "mask"):
            if plain[key] is not None and plain[key].ndim == 3:
                stacks[key] = Frames.of(plain.pop(key), own)
        fields = {**plain, "flux": self.flux, "background": self._background}
        names = ("_path", "_decision", "_mean_energy", "sample_indices", "scan_probes")
        known = {"_added": (self.added,), **{name: getattr(self, name) for name in names}}
        return {"fields": fields, "stacks": stacks, "known": known}

    @classmethod
    def from_shared(cls, shared: dict[str, Any]) -> RawData:
        """The scan of another process, as `shared` has it."""
        stacks = {key: frames.opened() for key, frames in shared["stacks"].items()}
        scan = cls(**shared["fields"], **stacks)
        vars(scan).update(shared["known"])
        return scan

    def turned(self, flip_x: bool = False, flip_y: bool = False, transpose: bool = False) -> RawData:
        """This scan, on the same patterns, with its positions along other axes (`turned_positions`); without the object
        then, which is that of the positions it came with.
        """
        made = turned_positions(self._as_file(self._declared), flip_x, flip_y, transpose)
        if not (flip_x or flip_y or transpose):
            return self
        if self.objectGuess is not None:
            logger.info("%s: the object that belongs to the positions as they were is left out", self.name)
        other = RawData(**vars(made))
        other._path, other._decision, other._mean_energy = self._path, self._decision, self._mean_energy
        other._added, other._background, other.flux = self._added, self._background, self.flux
        other.blur, other.scan_probes = self.blur, self.scan_probes
        other.sample_indices = self.sample_indices
        return other

    def replaced(self, **fields: Any) -> RawData:
        """A scan of the same file with other arrays, by the names of `ScanFile`; its units are those decided.

        It has as many patterns of as many pixels, and what is known of their flux, background, blur and probes.
        """
        fields = {**vars(self._as_file(self.units)), **fields}
        other = RawData(**fields, flux=self.flux, background=self._background, blur=self.blur)
        other._path, other.scan_probes, other.sample_indices = self._path, self.scan_probes, self.sample_indices
        return other

    def without_probe_ramp(self) -> RawData:
        """This scan, on the same arrays, with the mean phase slope taken out of the probe (`without_ramp`)."""
        return self.with_probe(without_ramp(self.probeGuess))

    def with_probe(self, probe: ArrayLike) -> RawData:
        """This scan, on the same arrays, with a probe or another one; its units stay those decided without it.

        Raises:
            DataError: a probe that does not fit the patterns.
        """
        decided, given = self.units_decision, np.asanyarray(probe)
        check_probe_shape(given, self.N, self.N)
        other = copy.copy(self)
        other._probe, other._decision, other.made_of = given, decided, None
        return other

    def with_recording(
        self, flux: ArrayLike | None = None, background: ArrayLike | None = None, blur: float | None = None
    ) -> RawData:
        """This scan, on the same arrays, with what is known of its recording, as of the class; None: as before.

        A refinement finds them (`ptycho.reconstruct(scan, refine_flux=True, background=True, detector_blur="find")`):
        `flux`, `background` and `blur` of its result.

        Raises:
            DataError: those of another scan, or a blur of more than an eighth of a pattern.
        """
        other = copy.copy(self)
        if flux is not None:
            other.flux = check_flux(flux, len(self))
        if background is not None:
            other._background = check_background(background, self.N)
        if blur is not None:
            other.blur = check_blur(blur, self.N) or None
        return other

    def group_count(
        self,
        gridsize: int,
        K: int = 4,
        neighbor_pool_size: int | None = None,
        options: GroupOptions = NEUTRAL_GROUPS,
    ) -> int:
        """Number of groups of which none has to be drawn twice: `groups_per_seed` for each of `seed_count`."""
        seeds = self.seed_count(gridsize, K, neighbor_pool_size, options)
        return seeds * (options.groups_per_seed if gridsize > 1 else 1)

    def seed_count(
        self,
        gridsize: int,
        K: int = 4,
        neighbor_pool_size: int | None = None,
        options: GroupOptions = NEUTRAL_GROUPS,
    ) -> int:
        """Number of scan points that groups are drawn around (`seed_points`), `groups_per_seed` around each."""
        return len(seed_points(self.xcoords, self.ycoords, gridsize, K, neighbor_pool_size, options))

    def generate_grouped_data(
        self,
        N: int,
        K: int = 4,
        nsamples: int | None = 1,
        dataset_path: Path | str | None = None,
        seed: int | None = None,
        sequential_sampling: bool = False,
        gridsize: int | None = None,
        enable_oversampling: bool = False,
        neighbor_pool_size: int | None = None,
        options: GroupOptions = NEUTRAL_GROUPS,
        input_scale: float | None = None,
    ) -> GroupedData:
        """Groups of C = gridsize^2 neighbouring scan points (`make_groups` has the rules).

        Args:
            N: side of the patterns; has to be that of the scan.
            nsamples: number of groups B; None as in `make_groups`.
            dataset_path: accepted for older callers and unused; there is no cache file.
            gridsize: None takes `params.cfg['gridsize']`.
            input_scale: k; None, for callers that train and load through this library, takes
                `params.cfg['input_scale']` when training or a loaded model set it, else that of this scan.
            K, seed, sequential_sampling, enable_oversampling, neighbor_pool_size, options: as in `make_groups`.

        Returns:
            The dictionary of specs/data_contracts.md; `X_full` is k times the amplitude.
        """
        if self.near_field is not None:
            raise DataError(
                "groups: expected patterns of the far field, which networks are for, found near field; iterate: ptycho "
                "reconstruct"
            )
        if self.N != N:
            raise DataError(f"N={N}: the scan has patterns of {self.N} x {self.N} pixels; set N to {self.N}")
        if nsamples == 1 and len(self) > 1:
            logger.warning(
                "1 of %d patterns is grouped, and so one place of the object is reconstructed: raise nsamples "
                "(NumSamples in ptychodus) to %d for all of it",
                len(self),
                len(self),
            )
        groups = make_groups(
            self.xcoords,
            self.ycoords,
            int(params.cfg["gridsize"]) if gridsize is None else gridsize,
            K=K,
            nsamples=nsamples,
            seed=seed,
            sequential_sampling=sequential_sampling,
            enable_oversampling=enable_oversampling,
            neighbor_pool_size=neighbor_pool_size,
            options=options,
        )
        offsets, relative = group_coordinates(self.xcoords, self.ycoords, groups)
        start_offsets, start_relative = group_coordinates(self.xcoords_start, self.ycoords_start, groups)
        shape = None if self.objectGuess is None else self.objectGuess.shape[-2:]
        values = {
            "coords_offsets": FramedOffsets(offsets, shape),
            "coords_relative": relative,
            "coords_start_offsets": start_offsets,
            "coords_start_relative": start_relative,
            "coords_nn": member_positions(self.xcoords, self.ycoords, groups),
            "coords_start_nn": member_positions(self.xcoords_start, self.ycoords_start, groups),
            "nn_indices": groups,
            "objectGuess": self.objectGuess,
        }
        if self.sample_indices is not None:
            values["sample_indices"] = self.sample_indices
        scale = params.cfg.get("input_scale") if input_scale is None else input_scale
        return GroupedData(values, self, None if scale is None else float(scale))


def _optional(array: ArrayLike | None) -> Array | None:
    return None if array is None else np.asanyarray(array)
