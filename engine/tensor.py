"""The Tensor: an array with a dtype, a device, and a place on the tape.

What lives here: the object itself, its attributes, conversions, and how it is made from an array. Operators are attached by
`engine.dispatch` from the book, composed functions and methods by `engine.functions`; neither is written here.
On the CPU `_array` is a NumPy array: views, strides and sharing come with it. On CUDA it is our own strided device array.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import devices, dtypes
from .dtypes import dtype as Dtype
from .errors import DTypeError, GradError

new = object.__new__


class Kind:
    """A dtype on a device: what an operator's table of loops is keyed by. One object for each pair, compared by identity."""

    __slots__ = ("array", "constants", "device", "dtype", "kin", "numpy")

    def __init__(self, dtype: Dtype, device: devices.device, array: type = np.ndarray):
        self.dtype, self.device, self.numpy, self.array = dtype, device, dtype.numpy, array     # array: what its tensors hold
        self.constants: dict = {}
        self.kin: dict[Dtype, Kind] = KIND          # the kinds of all dtypes on the same device

    def __repr__(self) -> str:
        return f"<{self.dtype.name} on {self.device}>"


KIND: dict[Dtype, Kind] = {}                                                              # the CPU's kinds
KIND.update({d: Kind(d, devices.CPU) for d in dtypes.ALL})
KIND_OF_NUMPY: dict[np.dtype, Kind] = {d.numpy: KIND[d] for d in dtypes.ALL}
for _code in "bBhHiIlLqQ":          # `long` and `long long` are two NumPy types of one width: both are our int64
    KIND_OF_NUMPY.setdefault(np.dtype(_code), KIND[dtypes.by_name(np.dtype(_code).name)])


class Size(tuple):
    """A shape: a tuple of ints that prints as `engine.Size([2, 3])` and counts its elements."""

    __slots__ = ()

    def numel(self) -> int:
        """Number of elements of a tensor of this size."""
        count = 1
        for n in self:
            count *= n
        return count

    def __repr__(self) -> str:
        return f"engine.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if isinstance(index, slice) else found

    def __add__(self, other: Tensor | complex) -> Any:
        return Size(tuple.__add__(self, other))

    def __reduce__(self) -> Any:
        return Size, (tuple(self),)


class View:
    """How a tensor came to share another's memory: `operator(parent, **options)`; kept so that in-place writes differentiate.

    `base`: where the chain of views begins; `seen`: the base's node that the view's own history follows, another one means that it
    is stale. `recorded`: made while grad mode was on. `output`: which of `count` results it is (-1: the only one). A view that a
    custom Function returned has no operator.
    """

    __slots__ = ("base", "count", "operator", "options", "output", "parent", "recorded", "seen")

    def __init__(self, parent: Tensor, operator: Any, options: dict, recorded: bool, output: int = -1, count: int = 1) -> None:
        self.parent, self.operator, self.options = parent, operator, options
        self.base = parent if parent._view is None else parent._view.base
        self.seen, self.recorded, self.output, self.count = self.base._node, recorded, output, count


class Meta:
    """Rare attributes of a tensor: hooks, whether its gradient is retained."""

    __slots__ = ("accumulator", "after_hooks", "hooks", "retains")

    def __init__(self):
        self.hooks: dict | None = None
        self.after_hooks: dict | None = None
        self.retains = False
        self.accumulator: tuple | None = None       # (hooks, weak reference) of the node that stands for a leaf


class Tensor:
    """An n-dimensional array of one dtype on one device, whose operations autograd can record.

    `engine.tensor(data)` makes one from data; `Tensor(2, 3)` and `Tensor([1, 2])` are PyTorch's older forms (float by default).
    """

    # _array: the data; _kind: dtype and device; _node: the operation that made it (None: a leaf); _needs: requires grad;
    # _counter: None or [version], shared by all tensors over the same memory; _view: see View; _grad; _meta: see Meta;
    # _inference: there for tensors made in inference mode only
    __slots__ = ("__dict__", "__weakref__", "_array", "_counter", "_grad", "_inference", "_kind", "_meta", "_needs", "_node",
                 "_view")

    def __new__(cls, *data: Any, device: Any = None) -> Tensor:
        from .functions.create import legacy_constructor
        made = legacy_constructor(None, data, device)
        return made if cls is Tensor else as_subclass(made, cls)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> Dtype:
        return self._kind.dtype

    @property
    def device(self) -> devices.device:
        return self._kind.device

    @property
    def shape(self) -> Size:
        return Size(self._array.shape)

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def itemsize(self) -> int:
        return self._kind.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._array.size * self._kind.dtype.itemsize

    @property
    def is_cuda(self) -> bool:
        return self._kind.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        return self._kind.device.type == "cpu"

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return Size(self._array.shape)
        return self._array.shape[wrap_dim(dim, self._array.ndim)]

    def dim(self) -> int:
        """Number of dimensions."""
        return self._array.ndim

    ndimension = dim

    def numel(self) -> int:
        """Number of elements."""
        return self._array.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one element."""
        return self._kind.dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Elements to step over in memory, for all dimensions or one. PyTorch's numbers also where a size is 0 or 1."""
        strides = element_strides(self._array)
        return strides if dim is None else strides[wrap_dim(dim, len(strides))]

    def storage_offset(self) -> int:
        """Elements between the start of the storage and the first element."""
        base = storage_of(self._array)
        return (address_of(self._array) - address_of(base)) // self._array.itemsize

    def data_ptr(self) -> int:
        """Address of the first element; 0 for an empty tensor."""
        return address_of(self._array) if self._array.size else 0

    def is_contiguous(self) -> bool:
        """Whether elements lie in row-major order without gaps."""
        return self._array.flags.c_contiguous

    def is_floating_point(self) -> bool:
        return self._kind.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self._kind.dtype.is_complex

    def is_signed(self) -> bool:
        return self._kind.dtype.is_signed

    def get_device(self) -> int:
        """Index of the CUDA device, -1 on the CPU."""
        return -1 if self._kind.device.type == "cpu" else self._kind.device.index or 0

    def __len__(self) -> int:
        if not self._array.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._array.shape[0]

    def __hash__(self) -> int:
        return id(self)

    # --- on the tape --------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        view = self._view
        if view is None or self._needs or view.base._node is view.seen:
            return self._needs
        return view.base._needs and view.operator is not None and self._kind.dtype.category >= 2

    @requires_grad.setter
    def requires_grad(self, needs: bool) -> None:
        self.requires_grad_(needs)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Record operations on this leaf from now on (or stop)."""
        if requires_grad and self._kind.dtype.category < 2:
            raise DTypeError("only Tensors of floating point and complex dtype can require gradients")
        if requires_grad and tape.modes_used.inference and not tape.modes.inference and self.is_inference():
            raise GradError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        if not requires_grad and self._node is not None:
            raise GradError("you can only change requires_grad flags of leaf variables. If you want to use a computed "
                            "variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach().")
        self._needs = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def grad_fn(self) -> Any:
        if self._view is not None:
            tape.refresh(self)
        node = self._node
        return node.source if node.__class__ is tape.Branch else node

    @property
    def output_nr(self) -> int:
        """Which result of its node this tensor is."""
        return self._node.index if self._node.__class__ is tape.Branch else 0

    @property
    def grad(self) -> Tensor | None:
        if self._grad is None and self._node is not None and not self.retains_grad:
            import warnings
            warnings.warn("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute "
                          "won't be populated during autograd.backward(). If you indeed want the .grad field to be populated "
                          "for a non-leaf Tensor, use .retain_grad() on the non-leaf Tensor.", UserWarning, stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value._kind is not self._kind:
                raise DTypeError(f"attempting to assign a gradient with dtype '{value.dtype}' to a tensor with grad_dtype "
                                 f"'{self.dtype}'. The gradient must match the tensor's grad_dtype "
                                  "(defaults to the tensor's dtype).")
            if value._array.shape != self._array.shape:
                raise RuntimeError(f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                                   f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same size")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def retains_grad(self) -> bool:
        return self._meta is not None and self._meta.retains

    @property
    def _version(self) -> int:
        if tape.modes_used.inference and self.is_inference():
            raise GradError("Inference tensors do not track version counter.")
        return self._counter[0] if self._counter else 0

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view.base

    def _is_view(self) -> bool:
        return self._view is not None

    @property
    def data(self) -> Tensor:
        """The same memory without history; writes to it are not seen by autograd."""
        made = wrap(self._array, self._kind)
        if tape.modes_used.inference:
            made._inference = self.is_inference()
        return made

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if value._kind.device is not self._kind.device or value._kind.dtype.category < 2 <= self._kind.dtype.category:
            raise RuntimeError(f"Attempted to call `variable.set_data(tensor)`, but `variable` and `tensor` have incompatible "
                               f"tensor type: {self._kind} and {value._kind}")
        self._array, self._kind = value._array, value._kind

    def is_inference(self) -> bool:
        """Whether the tensor was made in `inference_mode`: autograd cannot save it, and only that mode may write it."""
        return tape.modes_used.inference and getattr(self if self._view is None else self._view.base, "_inference", False)

    def detach(self) -> Tensor:
        """The same memory as a leaf without history; in-place writes through it are counted."""
        made = wrap(self._array, self._kind)
        made._counter = shared_counter(self)
        if tape.modes_used.inference:
            made._inference = self.is_inference()
        return made

    def detach_(self) -> Tensor:
        """Forget the history of this tensor, in place."""
        if self._view is not None:
            raise GradError("Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
                            "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence "
                            "detach_() cannot be called on these gradients. To fix this error, please refer to the "
                            "Optimizer.zero_grad() function in torch/optim/optimizer.py as the solution.")
        self._node, self._needs = None, False
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Any = None) -> None:
        """Accumulate d self / d leaf into `.grad` of every leaf (or of `inputs`).

        `gradient` (shape of self) is the cotangent, 1 for a single element. Errors: RuntimeError as in PyTorch.
        """
        walk.backward(self, gradient, retain_graph, create_graph, inputs)

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is not a leaf in `.grad` too."""
        if not self.requires_grad:
            raise GradError("can't retain_grad on Tensor that has requires_grad=False")
        if self._node is not None and not self.retains_grad:
            meta_of(self).retains = True
            tape.watch(self)

    def register_hook(self, hook: Callable) -> Any:
        """Call `hook(grad)` when the gradient of this tensor is known; a returned tensor replaces it."""
        return tape.register_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable) -> Any:
        """Call `hook(tensor)` after `.grad` of this leaf was accumulated."""
        if not self.requires_grad:
            raise GradError("cannot register a hook on a tensor that doesn't require gradient")
        if self._node is not None:
            raise GradError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        meta = meta_of(self)
        meta.after_hooks = {} if meta.after_hooks is None else meta.after_hooks
        return tape.Removable(meta.after_hooks, hook)

    # --- out of the engine --------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The only element as a Python number."""
        array = self._array
        if array.size != 1:
            raise RuntimeError(f"a Tensor with {array.size} elements cannot be converted to Scalar")
        return array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for a tensor without dimensions."""
        return host(self).tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The data as a NumPy array that shares memory with the tensor; `force` detaches, copies to the CPU, resolves."""
        if force:
            return host(self)
        if self._kind.device.type != "cpu":
            raise TypeError(f"can't convert {self._kind.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
                            "to host memory first.")
        if self.requires_grad:
            raise GradError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self._array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ValueError(f"a copy is needed to convert {array.dtype} to {np.dtype(dtype)}")
            return array.astype(dtype)
        return array.copy() if copy else array

    __array_priority__ = 1000       # NumPy's operators give way to ours

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if self.is_cuda:
            from . import dlpack
            return dlpack.exported(self._array)
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return (2, self._kind.device.index) if self.is_cuda else self._array.__dlpack_device__()      # 2: kDLCUDA

    @property
    def __cuda_array_interface__(self) -> dict:
        """Address, shape and strides for CuPy, Numba and other libraries of the GPU. Source: Numba's documentation, version 3."""
        if not self.is_cuda:
            raise AttributeError(f"Can't get __cuda_array_interface__ on non-CUDA tensor type: {self.dtype}. If CUDA data is "
                                 "required use tensor.cuda() to copy tensor to device memory.")
        if self.requires_grad:
            raise GradError("Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't required, use "
                            "var.detach() to get Variable that doesn't require grad.")
        return self._array.__cuda_array_interface__

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if not self._array.size else
                               "Boolean value of Tensor with more than one value is ambiguous")
        return bool(self._array.item())

    def __float__(self) -> float:
        if tape.modes.lost is not None and self.requires_grad:
            tape.modes.lost()
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __complex__(self) -> complex:
        return complex(self.item())

    def __index__(self) -> int:
        if self._array.size != 1 or self._kind.dtype.category > 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self._array.item())

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        from . import printing
        place = self._kind.device
        node = self.grad_fn
        default = dtypes.DEFAULT.dtype
        return printing.tensor_repr(
            host(self), dtype_name=self._kind.dtype.name, is_default_dtype=self._kind.dtype in (default, default.complex),
            requires_grad=self._needs and node is None, grad_fn_name=None if node is None else type(node).__name__,
            device=str(place) if place.type != "cpu" else "cpu")

    def __str__(self) -> str:
        return self.__repr__()

    def __format__(self, spec: str) -> str:
        from . import printing
        text = printing.tensor_format(host(self), spec, "Tensor")
        return str(self) if text is None else text

    def __iter__(self) -> Iterator:
        if not self._array.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __reversed__(self) -> Tensor:
        return self.flip(0) if self._array.ndim else self

    def __contains__(self, element: Any) -> bool:
        if isinstance(element, (Tensor, bool, int, float, complex)):
            return bool((element == self).any().item())
        raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                           f"{type(element)}.")

    def __copy__(self) -> Tensor:
        made = as_subclass(wrap(self._array, self._kind), type(self))       # the same memory as a leaf, as in PyTorch
        made._counter, made._needs = shared_counter(self), self.requires_grad
        made.__dict__.update(self.__dict__)
        return made

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self._node is not None:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at "
                               "the moment. If you were attempting to deepcopy a module, this may be because of a "
                               "torch.nn.utils.weight_norm usage, see https://github.com/pytorch/pytorch/pull/103001")
        if id(self) in memo:
            return memo[id(self)]
        import copy
        made = as_subclass(wrap(self._array.copy("K"), self._kind), type(self))
        memo[id(self)] = made
        made._needs = self._needs
        if self._grad is not None:
            made._grad = copy.deepcopy(self._grad, memo)
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __reduce_ex__(self, protocol: int) -> Any:
        values = np.array(host(self), order="K")       # a view takes its own elements along, not the memory that it looks into
        return _rebuild, (type(self), values, self._kind.dtype, str(self._kind.device), self.requires_grad, self.__dict__)

    def __operator__(self, operator: Any, operands: Any, options: Any) -> Any:
        """A book's record was called on tensors (see kernels.book.Operator.__call__)."""
        return operator.apply(*operands, **options)


def _rebuild(cls, array, dtype, device, needs, attributes):
    made = as_subclass(wrap(array, KIND[dtype]), cls)
    if device != "cpu":
        made = made.to(device)
    made._needs = needs
    made.__dict__.update(attributes)
    return made


# --- making and looking into tensors ----------------------------------------------------------------------------------

def wrap(array: np.ndarray, kind: Kind) -> Tensor:
    """A tensor over an array of exactly this kind, a leaf without history. A host array with a kind of CUDA is copied there."""
    made = new(Tensor)
    if array.__class__ is not kind.array:
        array, kind = _suited(array, kind)
    made._array, made._kind = array, kind
    made._node = made._counter = made._view = made._grad = made._meta = None
    made._needs = False
    return made


def _suited(array: Any, kind: Kind) -> tuple[Any, Kind]:
    """Array and kind where they are not of one device; subclasses of ndarray are as good as itself."""
    if kind.device is devices.CPU and isinstance(array, np.ndarray):
        return array, kind
    from . import device_arrays
    return device_arrays.suited(array, kind)


def from_array(array: np.ndarray) -> Tensor:
    """A tensor over a CPU array whose dtype decides the kind."""
    return wrap(array, KIND_OF_NUMPY[array.dtype])


def as_subclass(tensor: Tensor, cls: type) -> Tensor:
    """The tensor as an object of a subclass (Parameter)."""
    if cls is type(tensor):
        return tensor
    made = new(cls)
    for name in ("_array", "_kind", "_node", "_counter", "_view", "_grad", "_meta", "_needs"):
        setattr(made, name, getattr(tensor, name))
    if tape.modes_used.inference:
        made._inference = getattr(tensor, "_inference", False)
    return made


def meta_of(tensor: Tensor) -> Meta:
    """The tensor's Meta, made if need be."""
    if tensor._meta is None:
        tensor._meta = Meta()
    return tensor._meta


def shared_counter(tensor: Tensor) -> list[int]:
    """The version counter of a tensor's memory, for another tensor over the same memory."""
    if tensor._counter is None:
        tensor._counter = [0]
    return tensor._counter


def bump(tensor: Tensor) -> None:
    """Count a write to the tensor's memory."""
    if tape.modes_used.inference:
        refuse_writing(tensor)
    counter = tensor._counter
    if counter is None:
        tensor._counter = [1]
    else:
        counter[0] += 1


def host(tensor: Tensor) -> np.ndarray:
    """The data as a NumPy array on the CPU, shared where it is there already."""
    array = tensor._array
    return array if isinstance(array, np.ndarray) else array.copy_to_host()


def wrap_dim(dim: int, ndim: int) -> int:
    """A dimension counted from the front; IndexError in PyTorch's words. Numbers have one dimension to name."""
    try:
        dim = dim.__index__()
    except AttributeError:
        raise TypeError(f"dim must be an int, not {type(dim).__name__}") from None
    limit = max(ndim, 1)
    if not -limit <= dim < limit:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})")
    return dim + limit if dim < 0 else dim


def wrap_dims(dims, ndim: int) -> tuple[int, ...]:
    """One or several dimensions, counted from the front, each once."""
    wrapped = tuple(wrap_dim(d, ndim) for d in ((dims,) if hasattr(dims, "__index__") else dims))
    if len(set(wrapped)) != len(wrapped):
        twice = next(d for d in wrapped if wrapped.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return wrapped


def address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.address


def storage_of(array: np.ndarray) -> np.ndarray:
    """The array that owns the memory, or that lies over a pooled buffer or the memory of others."""
    if not isinstance(array, np.ndarray):
        whole = array.base
        return array if whole is None else whole
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def element_strides(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements. NumPy leaves those of a contiguous array with sizes 0 or 1 open; PyTorch's are the row-major ones."""
    shape = array.shape
    if array.flags.c_contiguous:
        strides, step = [], 1
        for n in reversed(shape):
            strides.append(step)
            step *= max(n, 1)
        return tuple(reversed(strides))
    size = array.itemsize
    strides = [s // size for s in array.strides]
    for d in range(len(shape) - 1, -1, -1):
        if shape[d] == 1 and not strides[d]:        # a new dimension
            strides[d] = strides[d + 1] * shape[d + 1] if d + 1 < len(shape) else 1
    return tuple(strides)


def refuse_writing(tensor: Tensor) -> None:
    """GradError where inference mode forbids an in-place write; asked only in processes that use it."""
    from . import inference
    inference.refuse_writing(tensor)


from . import tape, walk  # noqa: E402  (the tape needs Tensor, and Tensor's methods need the tape)
