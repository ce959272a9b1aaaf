"""Sums and exchanges of tensors by torch.distributed, on the device where they lie.

Tensors of the host go by gloo, those of GPUs by NCCL, in the same calls; where there is no NCCL a tensor of a GPU goes
through the memory of the host. What NCCL asks for is done for both:

* complex numbers go as pairs of real ones, which it does not know otherwise, and everything is contiguous;
* all processes begin the same exchanges in the same order, what they have for each other in one batch: a process that
  sends before another has begun to receive waits for it;
* exchanges go on the stream of the work (the current one), behind what was worked out there; copies of patterns, which
  have a stream of their own, are not waited for;
* the current GPU of the thread is the one that the process has taken; another thread would have the first GPU, but work
  on a GPU has one lane.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ptycho.core.refinement.device.images import Image, Resident

__all__ = ["TensorExchange", "alike", "cut_off", "meet", "tensor_of"]


def tensor_of(image: Image) -> Tensor:
    """The tensor that an image is, or NumPy's array as one, copied only where it cannot be shared."""
    if isinstance(image, Resident) and isinstance(image.value, Tensor):
        return image.value
    return torch.from_numpy(np.require(image, requirements=("C", "W")))


def alike(image: Image, tensor: Tensor) -> Image:
    """A tensor as what `image` is, from which `tensor_of` made one."""
    if isinstance(image, Resident) and isinstance(image.value, Tensor):
        return image.like(tensor)
    return tensor.numpy()


class TensorExchange:
    """What processes add up and give each other, in tensors.

    Args:
        rank, size: of this process, and how many there are.
        carried: kinds of devices between which tensors go; all others go through the memory of the host.
        in_order: those on which sums are added in the order of the processes, so that the same tensors have the same
            sum, to the bit, in every run and in all processes; NCCL does not promise the order of its own sums.
        arrived: called with the device of an exchange that was begun; waits for it.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        carried: Collection[str] = ("cpu",),
        in_order: Collection[str] = (),
        arrived: Callable[[torch.device], None] = lambda _: None,
    ) -> None:
        self._rank, self._size = rank, size
        self._carried, self._in_order, self._arrived = carried, in_order, arrived
        self.sent = 0
        """Bytes that this process has added to sums and given to others, so far."""

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over all processes, each where it is; tensors of one device and type go together.

        Those of the host come first: that a process is gone is an error there at once, and nowhere else.
        """
        summed: list[Any] = [None] * len(tensors)
        parts = [self._numbers(each) for each in tensors]
        kinds = dict.fromkeys((part.device, part.dtype) for part in parts)
        for kind in sorted(kinds, key=lambda kind: kind[0].type != "cpu"):
            mine = [k for k, part in enumerate(parts) if (part.device, part.dtype) == kind]
            mine.sort(key=lambda k: not tensors[k].is_complex())  # a pair begins at an even place
            whole = self._added(torch.cat([parts[k] for k in mine]))
            for k, values in zip(mine, whole.split([parts[k].numel() for k in mine]), strict=True):
                summed[k] = _complex(values, tensors[k].shape) if tensors[k].is_complex() else values
                summed[k] = summed[k].view(tensors[k].shape).to(tensors[k].device)
        return summed

    def exchange(self, pieces: Sequence[Tensor], shapes: Sequence[Sequence[int]]) -> list[Tensor]:
        """What all processes have for this one.

        Args:
            pieces: for each process, by its rank; on one device and of one type, in all processes.
            shapes: of what each has for this one.
        """
        own = pieces[self._rank]
        here = own.device if own.device.type in self._carried else torch.device("cpu")
        found = [
            own if rank == self._rank else torch.empty(tuple(shape), dtype=own.dtype, device=here)
            for rank, shape in enumerate(shapes)
        ]
        steps = []
        for rank in range(self._size):
            if rank == self._rank:
                continue
            if found[rank].numel():
                steps.append(dist.P2POp(dist.irecv, self._numbers(found[rank]), rank))
            if pieces[rank].numel():
                sent = self._numbers(pieces[rank])
                self.sent += sent.nbytes
                steps.append(dist.P2POp(dist.isend, sent, rank))
        for each in dist.batch_isend_irecv(steps) if steps else ():
            each.wait()
        self._arrived(here)
        return [each.to(own.device) for each in found]

    def _added(self, whole: Tensor) -> Tensor:
        """The sum of a tensor `(n,)` that may be overwritten."""
        if whole.device.type not in self._in_order:
            self.sent += whole.nbytes
            dist.all_reduce(whole)
            self._arrived(whole.device)
            return whole
        # each process adds a part, which all others send it, and sends them the sum: as much as a ring of them sends
        parts = whole.tensor_split(self._size)
        first, *others = self.exchange(parts, [parts[self._rank].shape] * self._size)
        total = first.clone()
        for each in others:
            total += each
        return torch.cat(self.exchange([total] * self._size, [part.shape for part in parts]))

    def _numbers(self, values: Tensor) -> Tensor:
        """The real numbers `(n,)` of a tensor, where they can be sent from; not copied where that is not needed."""
        here = values if values.device.type in self._carried else values.cpu()
        here = here.contiguous()
        return (torch.view_as_real(here) if here.is_complex() else here).view(-1)


def _complex(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Pairs of numbers as complex ones."""
    return torch.view_as_complex(values.view(*shape, 2))


def meet(timeout: timedelta) -> None:
    """Have the GPUs of all processes find each other, and NCCL's own watch end the program after a time.

    NCCL joins them with the first exchange, in which all have to take part, as they need not in those of strips.
    """
    dist.all_reduce(torch.zeros(1, device="cuda"))
    torch.cuda.synchronize()
    _nccl()._set_default_timeout(timeout)


def cut_off() -> None:
    """End what a GPU still waits for where a run has failed: it may never come, and this process wait for its GPU."""
    with suppress(RuntimeError, AttributeError):  # a version of PyTorch that does so by itself when it leaves
        _nccl().abort()


def _nccl() -> Any:
    """What exchanges tensors of GPUs."""
    assert dist.group.WORLD is not None
    return dist.group.WORLD._get_backend(torch.device("cuda"))
