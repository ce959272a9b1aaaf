"""A CUDA device that is none: tensors that say they lie on `cuda:0`, and whose values the CPU works out.

Within `card()` a program takes every way that it takes on a GPU, with values, and is refused what a GPU refuses:
tensors of two devices in one operation, NumPy's view of a tensor of the device, a generator of the other device,
operations that `torch.use_deterministic_algorithms` forbids there. Of streams is kept what waits for what, so that a
tensor used before its copy has arrived, or let go while another stream may use it, is a fault.

It does not show what only hardware can: whether an operation has a kernel there, its rounding (TF32), its order of
sums, memory, speed. `torch.inference_mode` is `torch.no_grad` within, since its tensors have no version.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

aten = torch.ops.aten
CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
INDEXING = (aten.index.Tensor, aten._unsafe_index.Tensor, aten.index_put.default, aten.index_put_.default)
"""Which take indices of the CPU, too."""
TAKES_A_NUMBER = ("where", "masked_fill", "masked_fill_", "fill", "fill_")
"""Which take a number that lies on the CPU, beside those that work element by element."""
IN_NO_ORDER = (
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward", "put", "put_", "histc"),
    *("upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward", "bincount"),
    *("_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward", "cumsum", "cumsum_"),
    *("grid_sampler_2d_backward", "nll_loss_forward", "nll_loss2d_forward", "kthvalue", "median", "scatter_reduce"),
)
"""Which `torch.use_deterministic_algorithms` forbids on a GPU; cumsum of whole numbers it does not."""


class Stream:
    """What of the streams is waited for."""

    def __init__(self, _device: Any = None, name: str = "a stream of copies") -> None:
        self.name, self.time = name, 0
        self.seen: dict[Stream, int] = {}

    def __repr__(self) -> str:
        return self.name

    def wait_event(self, event: Event) -> None:
        for stream, time in event.at.items():
            self.seen[stream] = max(time, self.seen.get(stream, 0))


class Event:
    """How far streams were when it was recorded."""

    def __init__(self) -> None:
        self.at: dict[Stream, int] = {}

    def record(self, stream: Stream) -> None:
        self.at = {**stream.seen, stream: stream.time}


class Card:
    """What was seen: `faults` of streams, and how often a number was waited for, something went up or came down."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.seen: Counter[str] = Counter()
        self.streams = [Stream(name="the stream of the work")]
        self.locked = True  # whether the computer gives page-locked memory

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams.pop()


class Memory:
    """A block of the device: the stream that it was made on, and those that use it."""

    def __init__(self, card: Card) -> None:
        self.card, self.stream = card, card.streams[-1]
        self.stream.time += 1
        self.time, self.users, self.known = self.stream.time, {self.stream}, {self.stream}

    def use(self) -> None:
        now = self.card.streams[-1]
        if now is not self.stream and now.seen.get(self.stream, 0) < self.time:
            self.card.faults.append(f"used on {now} before it was waited for")
        self.users.add(now)

    def __del__(self) -> None:
        if self.users - self.known:
            self.card.faults.append("let go while a stream may use it")


class OnCard(Tensor):
    """A tensor of the device: PyTorch's own code takes it for one of the CPU, whoever asks for its device does not."""

    held: Tensor
    memory: Memory

    @staticmethod
    def __new__(cls, held: Tensor, memory: Memory) -> OnCard:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: OnCard = Tensor._make_wrapper_subclass(cls, held.shape, **layout, device=CPU)
        made.held, made.memory = held, memory
        return made

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def record_stream(self, stream: Stream) -> None:
        self.memory.known.add(stream)

    def __repr__(self, **_named: Any) -> str:
        return f"{self.held!r} on the card"

    def __format__(self, form: str) -> str:
        return format(self.held.item(), form)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> OnCard:
        made = OnCard(self.held.clone(), Memory(self.memory.card)).requires_grad_(self.requires_grad)
        made._is_param = getattr(self, "_is_param", False)
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return worked(function, args, kwargs or {}, next(filter(on_card, tree_flatten((args, kwargs))[0])).memory.card)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def on_card(value: Any) -> bool:
    return isinstance(value, OnCard)


def is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def held(value: Any) -> Any:
    return value.held if on_card(value) else value


class Up(torch.autograd.Function):
    """To the device; its gradient comes back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, card: Card) -> Tensor:
        ctx.card = card
        card.seen["up"] += 1
        return OnCard(values.detach().resolve_conj().resolve_neg().clone(), Memory(card))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return Down.apply(gradient, ctx.card), None


class Down(torch.autograd.Function):
    """From the device."""

    @staticmethod
    def forward(ctx: Any, values: OnCard, card: Card) -> Tensor:
        ctx.card = card
        card.seen["down"] += 1
        values.memory.use()
        return values.held.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return Up.apply(gradient, ctx.card), None


def worked(function: Any, args: Any, kwargs: Any, card: Card) -> Any:
    """An operation, by the CPU, on the device where one of its tensors lies there."""
    flat, form = tree_flatten((args, kwargs))
    ours = [each for each in flat if on_card(each)]
    others = [each for each in flat if isinstance(each, Tensor) and not on_card(each)]
    given, named = tree_unflatten([held(each) for each in flat], form)
    if is_cuda(kwargs.get("device")):
        named["device"] = CPU
    elif not ours:
        return function(*given, **named)
    for each in ours:
        each.memory.use()
    if function is aten.copy_.default:
        function(*given, **named)
        return args[0]
    check(function, args, ours, others)
    if function is aten._local_scalar_dense.default:
        card.seen["number"] += 1
    # whoever comes here has passed where PyTorch looks for conjugates that were put off
    put_off = {aten._conj.default: aten.conj_physical.default, aten._neg_view.default: aten.neg.default}
    found = put_off.get(function, function)(*given, **named)

    def as_ours(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        for each in ours:
            if value is each.held:
                return each
        start = value.untyped_storage().data_ptr()
        whose = (each.memory for each in ours if start and each.held.untyped_storage().data_ptr() == start)
        return OnCard(value, next(whose, None) or Memory(card))

    return tree_map(as_ours, found)


def check(function: Any, args: Any, ours: list[OnCard], others: list[Tensor]) -> None:
    """What a GPU refuses."""
    name = function.overloadpacket.__name__
    if ours and others:
        indices = args[1] if function in INDEXING and on_card(args[0]) else ()
        mixed = [each for each in others if not any(each is index for index in indices)]
        if torch.Tag.pointwise in function.tags or name in TAKES_A_NUMBER or function in INDEXING:
            mixed = [each for each in mixed if each.ndim]
        if mixed:
            raise RuntimeError(f"Expected all tensors to be on the same device, found cuda:0 and cpu ({function})")
    whole = name.startswith("cumsum") and not (ours[0].is_floating_point() or ours[0].is_complex())
    if ours and name in IN_NO_ORDER and not whole and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(f"{name} does not have a deterministic implementation")


class Operations(TorchDispatchMode):
    """What is made on the device."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # so that PyTorch does not look for a driver

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return worked(function, args, kwargs or {}, self.card)


class Functions(TorchFunctionMode):
    """Ways between the devices, which PyTorch's own code would not take: to it all is of the CPU."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.as_tensor, torch.asarray, torch.tensor):
            device = kwargs.pop("device", None)
            if isinstance(args[0], Tensor) and function is not torch.tensor:
                dtype = kwargs.get("dtype") or args[0].dtype
                return self.moved(args[0], args[0].device if device is None else device).to(dtype)
            return self.moved(function(*args, **kwargs), device or CPU)
        if function is Tensor.to:
            return self.to(*args, **kwargs)
        if function in (Tensor.cuda, Tensor.cpu):
            return self.moved(args[0], CUDA if function is Tensor.cuda else CPU)
        if function is Tensor.pin_memory:
            if not self.card.locked or on_card(args[0]):
                raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS\nadvice")
            self.card.seen["page-locked"] += 1
            return args[0].clone()
        if function is Tensor.__format__ and on_card(args[0]):
            return OnCard.__format__(*args)
        if function is Tensor.tolist and on_card(args[0]):
            self.card.seen["number"] += 1
            return args[0].held.tolist()
        if function in (Tensor.numpy, Tensor.__array__) and on_card(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        generator, device = kwargs.get("generator"), kwargs.get("device")
        if generator is not None and is_cuda(generator.device) != (is_cuda(device) or any(map(on_card, args))):
            raise RuntimeError(f"Expected another device type for the generator, found {generator.device}")
        return function(*args, **kwargs)

    def to(self, values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`values.to(...)`."""
        form = {key: kwargs.pop(key) for key in ("memory_format", "copy") if key in kwargs}
        if args and isinstance(args[0], Tensor):
            device, dtype, waits = args[0].device, args[0].dtype, not kwargs.get("non_blocking")
        else:
            device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
            waits = not non_blocking
        if device is not None:
            if on_card(values) and not is_cuda(device):
                assert waits, "values that nobody has waited for"
            values = self.moved(values, device)
        form |= {} if dtype is None else {"dtype": dtype}
        return Tensor.to(values, **form) if form else values

    def moved(self, values: Tensor, device: Any) -> Tensor:
        """The values on a device."""
        if is_cuda(device) == on_card(values):
            return values
        way = Up if is_cuda(device) else Down
        found: Tensor = way.apply(values, self.card)
        return found


class Autocast(torch.autocast):
    """That of the CPU, which PyTorch's own code takes the device for."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


def _nothing(*_args: Any, **_named: Any) -> None:
    return None


@contextmanager
def plugged(memory: int = 8 << 30) -> Iterator[Card]:
    """The device in this thread, with so many bytes of memory."""
    importlib.import_module("torch._dynamo")  # which cannot be loaded within, where PyTorch would
    card = Card()
    about = SimpleNamespace(name="a card that is none", major=9, minor=0, total_memory=memory)
    names: dict[str, Any] = {
        **dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), lambda *_args, **_named: True),
        **dict.fromkeys(("synchronize", "set_device", "empty_cache", "manual_seed", "manual_seed_all"), _nothing),
        **dict.fromkeys(("_lazy_init", "set_rng_state_all"), _nothing),
        **dict.fromkeys(("memory_reserved", "memory_allocated", "current_device"), lambda *_args: 0),
        "device_count": lambda: 1,
        "get_rng_state_all": list,
        "get_device_name": lambda *_args: about.name,
        "get_device_properties": lambda *_args: about,
        "get_device_capability": lambda *_args: (about.major, about.minor),
        "mem_get_info": lambda *_args: (memory, memory),
        "current_stream": lambda *_args: card.streams[-1],
        "Stream": Stream,
        "Event": Event,
        "stream": card.on,
    }
    with ExitStack() as stack:
        for name, value in names.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for module in (torch, torch.amp):
            stack.enter_context(mock.patch.object(module, "autocast", Autocast))
        without = {True: torch.no_grad, False: torch.enable_grad}
        stack.enter_context(mock.patch.object(torch, "inference_mode", lambda mode=True: without[mode]()))
        # else a parameter keeps the body of the CPU
        future = torch.__future__
        stack.callback(
            future.set_overwrite_module_params_on_conversion, future.get_overwrite_module_params_on_conversion()
        )
        future.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(Functions(card))
        stack.enter_context(Operations(card))
        yield card


@pytest.fixture
def card() -> Callable[..., AbstractContextManager[Card]]:
    """`with card() as seen:` there is a CUDA device in this thread."""
    return plugged
