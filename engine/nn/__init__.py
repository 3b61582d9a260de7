"""Neural networks: modules with parameters, and the functions they call, under PyTorch's names.

`parameter` and `module` are the ground; layers are in files by family, each with its `__all__`; plain functions in `functional`.
"""
from . import (
    activation,
    attention,
    containers,
    conv,
    distance,
    dropout,
    embedding,
    flatten,
    fold,
    functional,
    init,
    linear,
    loss,
    modules,
    normalization,
    padding,
    parameter_containers,
    pooling,
    recurrent,
    rnn_cells,
    transformer,
    upsampling,
    utils,
)
from .activation import *  # noqa: F403
from .attention import *  # noqa: F403
from .containers import *  # noqa: F403
from .conv import *  # noqa: F403
from .distance import *  # noqa: F403
from .dropout import *  # noqa: F403
from .embedding import *  # noqa: F403
from .flatten import *  # noqa: F403
from .fold import *  # noqa: F403
from .linear import *  # noqa: F403
from .loss import *  # noqa: F403
from .module import Module
from .normalization import *  # noqa: F403
from .padding import *  # noqa: F403
from .parameter import Buffer, Parameter, UninitializedParameter
from .parameter_containers import *  # noqa: F403
from .pooling import *  # noqa: F403
from .recurrent import *  # noqa: F403
from .rnn_cells import *  # noqa: F403
from .transformer import *  # noqa: F403
from .upsampling import *  # noqa: F403

__all__ = [
    "Buffer", "Module", "Parameter", "UninitializedParameter", "functional", "init", "modules", "utils",
    *activation.__all__, *attention.__all__,
    *containers.__all__, *conv.__all__, *distance.__all__, *dropout.__all__, *embedding.__all__,
    *flatten.__all__, *fold.__all__, *linear.__all__, *loss.__all__, *normalization.__all__, *padding.__all__,
    *parameter_containers.__all__, *pooling.__all__, *recurrent.__all__, *rnn_cells.__all__, *transformer.__all__,
    *upsampling.__all__,
]
