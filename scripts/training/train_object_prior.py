"""Train the network prior (`ptycho.core.refinement.priors.network_prior`) on what `object_prior_scans.py` made.

    python scripts/training/train_object_prior.py --scans FOLDER --output FOLDER --steps 2600
    python scripts/training/train_object_prior.py --scans FOLDER --output FOLDER --steps 4600 --crop 96 --batch 8
    python scripts/training/train_object_prior.py --output FOLDER --ship ptycho/core/refinement/priors/network_prior.h5

One thread. Written every minute: a state, from which an interrupted training goes on, and the weights. The second
command goes on with larger crops; scans whose number ends in 9 are kept back and judge.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptycho.core.files.atomic import atomic_path
from ptycho.core.files.npz import write_arrays
from ptycho.core.refinement.priors.network_prior import expected_noise, features, write_weights
from ptycho.core.refinement.priors.prior_unet import CHANNELS, LEVELS
from ptycho.networks.parts import Block, Head
from ptycho_torch.layers import ConvBlock, Decoder, canonical_name, linear_head

RATE, WARM = 2e-3, 100
"""Highest learning rate, and the steps up to it; it falls as a cosine."""
CLIP = 1.0
AVERAGE = 0.998
"""Of the weights that are written, per step."""
MOST = 5.0
"""Errors in units of the noise from which on the spread does not follow."""
EVERY_S = 60
LEAST_LIGHT = 0.02
"""Of the brightest pixel, below which pixels do not count."""


class UNet(nn.Module):
    """Twin of `ptycho.core.refinement.priors.prior_unet.unet`, `(B, CHANNELS, H, W)` -> `(B, 3, H, W)`."""

    def __init__(self) -> None:
        super().__init__()
        ins = (CHANNELS, *LEVELS[:-1])
        self.encoder = nn.ModuleDict(
            {str(k): ConvBlock(Block(f"encoder/{k}", ins[k], each)) for k, each in enumerate(LEVELS)}
        )
        up = LEVELS[::-1]
        self.decoder = Decoder([Block(f"decoder/{k}", up[k] + up[k + 1], up[k + 1]) for k in range(len(LEVELS) - 1)])
        self.head = linear_head(Head("head", LEVELS[0], 3, (0.0, 0.0, 0.0)))

    def forward(self, x: Tensor) -> Tensor:
        """What is added in units of the noise, and the logarithm of the variance in its units."""
        levels = []
        for depth, block in enumerate(self.encoder.values()):
            x = block(nn.functional.avg_pool2d(x, 2) if depth else x)
            levels.append(x)
        return self.head(self.decoder(levels[-1], levels[:-1]))


def canonical(state: dict[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    """Weights by canonical name, kernels `(row, column, in, out)`."""
    named = {}
    for name, value in state.items():
        array = value.detach().cpu().numpy()
        named[canonical_name(name)] = np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)
    return named


class Scans:
    """Crops of the scans of a folder."""

    def __init__(self, folder: Path, kept_back: bool) -> None:
        self.scans = []
        for file in sorted(folder.glob("*.npz")):
            if (int(file.stem) % 10 == 9) == kept_back:
                with np.load(file) as stored:
                    self.scans.append({name: stored[name] for name in ("found", "truth", "photons", "share")})
        if not self.scans:
            raise SystemExit(f"{folder}: expected scans, found none; make them with object_prior_scans.py")

    def crop(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features, and `(3, size, size)`: the error in units of the noise, two parts, and where it counts."""
        scan = self.scans[rng.integers(len(self.scans))]
        height, width = scan["found"].shape
        y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
        box = slice(y, y + size), slice(x, x + size)
        image, truth = scan["found"][box].astype(np.complex128), scan["truth"][box].astype(np.complex128)
        photons, share = scan["photons"][box], scan["share"][box]
        if rng.random() < 0.5:
            image, truth = image.conj(), truth.conj()
        sigma = expected_noise(photons, share)
        seen, turn = features(image, sigma, share)
        # the phase of a whole crop is open
        truth = truth * np.exp(1j * np.angle(np.vdot(truth / sigma, image / sigma)))
        error = (truth - image) * np.conj(turn) / sigma
        counts = photons > LEAST_LIGHT * scan["photons"].max()
        both = np.concatenate([seen, [error.real, error.imag, counts]]).astype(np.float32)
        both = np.rot90(both, int(rng.integers(4)), axes=(1, 2))
        both = both[:, :, ::-1] if rng.random() < 0.5 else both
        return both[:CHANNELS], both[CHANNELS:]

    def batch(self, rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, Tensor]:
        """Crops drawn at random."""
        seen, wanted = zip(*(self.crop(rng, size) for _ in range(count)), strict=True)
        return tuple(torch.from_numpy(np.stack(each)) for each in (seen, wanted))  # type: ignore[return-value]


def losses(given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the mean, robust, in units of the noise; of the spread; and the share of the squared error that is left."""
    counts = wanted[:, 2] / wanted[:, 2].sum()
    squares = ((given[:, :2] - wanted[:, :2]) ** 2).sum(dim=1)
    before = (wanted[:, :2] ** 2).sum(dim=1)
    mean = (counts * (torch.sqrt(1 + squares) - 1)).sum()
    log_variance = given[:, 2].clamp(-8, 4)
    spread = (counts * (squares.detach().clamp(max=MOST**2) * torch.exp(-log_variance) + log_variance)).sum()
    start = (counts * (torch.sqrt(1 + before) - 1)).sum()
    return mean, spread, mean / start


def rate(step: int, steps: int) -> float:
    """Of a step, relative to the highest."""
    return min((step + 1) / WARM, 1.0) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


def write(path: Path, content: Any) -> None:
    """A state, whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def ship(folder: Path, file: Path) -> None:
    """The weights of a training, with what made them."""
    state = torch.load(folder / "state.pt", weights_only=True)
    made = {
        "script": "scripts/training/train_object_prior.py",
        "steps": state["step"],
        "seconds": round(state["seconds"]),
        "seed": state["seed"],
        "scans": state["scans"],
        "torch": torch.__version__,
    }
    write_weights(file, canonical(state["average"]), made)


def main() -> None:
    """Train, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, help="folder of the scans")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--crop", type=int, default=64, help="side of what is seen at once, pixels")
    parser.add_argument("--batch", type=int, default=16, help="crops of a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ship", type=Path, metavar="FILE", help="only write the weights as the library reads them")
    args = parser.parse_args()
    if args.ship is not None:
        ship(args.output, args.ship)
        return
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    training, judging = Scans(args.scans, False), Scans(args.scans, True)
    network = UNet()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    begun, first, seconds = time.perf_counter(), 0, 0.0
    file = args.output / "state.pt"
    if file.exists():
        state = torch.load(file, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        average, first, seconds = state["average"], state["step"], state["seconds"]
    fixed = judging.batch(np.random.default_rng(1), 32, 96)
    told, written = [], time.perf_counter()
    for step in range(first, args.steps):
        seen, wanted = training.batch(np.random.default_rng([args.seed, step]), args.batch, args.crop)
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate(step, args.steps)
        with torch.autocast("cpu", torch.bfloat16):
            given = network(seen.contiguous(memory_format=torch.channels_last))
        mean, spread, left = losses(given.float(), wanted)
        optimizer.zero_grad()
        (mean + 0.1 * spread).backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        with torch.no_grad():
            keep = min(AVERAGE, (step + 1) / (step + 10))
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        told.append((mean.item(), spread.item(), left.item()))
        if time.perf_counter() - written > EVERY_S or step + 1 == args.steps:
            written = time.perf_counter()
            spent = seconds + written - begun
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            state |= {"seed": args.seed, "scans": len(training.scans)}
            write(file, {**state, "step": step + 1, "seconds": spent})
            with atomic_path(args.output / "weights.npz") as temporary, temporary.open("wb") as stream:
                write_arrays(stream, canonical(average))
            judge = UNet()
            judge.load_state_dict(average)
            with torch.no_grad():
                unseen = [each.item() for each in losses(judge(fixed[0]), fixed[1])]
            seen_now = np.mean(told, axis=0)
            told = []
            print(
                f"{step + 1} steps, {spent:.0f} s: mean, spread, left {seen_now.round(4)}, unseen {unseen}", flush=True
            )


if __name__ == "__main__":
    main()
