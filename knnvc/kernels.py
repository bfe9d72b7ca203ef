"""How networks compute on a CPU: faster linear layers and convolutions, in float32 or bfloat16.

torch gives float32 matrix products to MKL, which on AMD processors reaches less than half of what
oneDNN does, and one-dimensional convolutions to kernels that are slower than the two-dimensional
ones with channels last. `accelerate` swaps the layers of a loaded network for some that take the
faster way. In float32 results differ by rounding only. In bfloat16 weights, and what is multiplied
by them, have 8 bits of mantissa; sums, norms and shortcuts stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PRECISIONS = ("float32", "bfloat16")


@cache
def _onednn_linear() -> Callable[..., Tensor] | None:
    """oneDNN's linear layer for float32, or None where this torch has none.

    The operator is not documented (torch's own compiler uses it), so it is tried before it is
    trusted.
    """
    try:
        operator: Callable[..., Tensor] = torch.ops.mkldnn._linear_pointwise
        with torch.inference_mode():
            one, two, bias = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.ones(2)
            right = torch.equal(operator(one, two, bias, "none", [], ""), two.T + bias)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return None
    return operator if right else None


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`rows` [..., I] times `weight` [O, I] plus `bias` [O], by the fastest way that there is."""
    plain = rows.device.type != "cpu" or rows.dtype != torch.float32
    if plain or not torch.is_inference_mode_enabled():
        return functional.linear(rows, weight, bias)
    operator = _onednn_linear()
    if operator is None:
        return functional.linear(rows, weight, bias)
    return operator(rows, weight, bias, "none", [], "")


class FastLinear(nn.Module):
    """A linear layer [..., I] -> [..., O] for inference; the result has the weight's type."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = _frozen(layer.weight, dtype), _frozen(layer.bias, dtype)

    def forward(self, rows: Tensor) -> Tensor:
        """`rows` [..., I] of any type -> [..., O]."""
        return linear(rows.to(self.weight.dtype), self.weight, self.bias)


class FastConv1d(nn.Module):
    """A convolution [B, I, S] -> [B, O, S'] by a two-dimensional one with channels last."""

    def __init__(self, layer: nn.Conv1d, dtype: torch.dtype) -> None:
        super().__init__()
        flat = layer.weight.detach()[:, :, None].to(memory_format=torch.channels_last)
        self.weight, self.bias = _frozen(flat, dtype), _frozen(layer.bias, dtype)
        padding, stride, dilation = layer.padding[0], layer.stride[0], layer.dilation[0]
        self.settings: dict[str, Any] = {
            "padding": (0, padding),
            "stride": (1, stride),
            "dilation": (1, dilation),
            "groups": layer.groups,
        }

    def forward(self, signal: Tensor) -> Tensor:
        """`signal` [B, I, S] of any type -> [B, O, S']."""
        flat = signal[:, :, None].to(self.weight.dtype, memory_format=torch.channels_last)
        return functional.conv2d(flat, self.weight, self.bias, **self.settings)[:, :, 0]


class FastConvTranspose1d(nn.Module):
    """A transposed convolution [B, I, S] -> [B, O, S'], likewise."""

    def __init__(self, layer: nn.ConvTranspose1d, dtype: torch.dtype) -> None:
        super().__init__()
        flat = layer.weight.detach()[:, :, None].to(memory_format=torch.channels_last)
        self.weight, self.bias = _frozen(flat, dtype), _frozen(layer.bias, dtype)
        padding, stride = layer.padding[0], layer.stride[0]
        self.settings: dict[str, Any] = {"padding": (0, padding), "stride": (1, stride)}

    def forward(self, signal: Tensor) -> Tensor:
        """`signal` [B, I, S] of any type -> [B, O, S']."""
        flat = signal[:, :, None].to(self.weight.dtype, memory_format=torch.channels_last)
        return functional.conv_transpose2d(flat, self.weight, self.bias, **self.settings)[:, :, 0]


def _frozen(tensor: Any, dtype: torch.dtype) -> Any:
    if tensor is None:
        return None
    return nn.Parameter(tensor.detach().to(dtype), requires_grad=False)


def accelerate(network: nn.Module, precision: str = "float32", keep: Collection[str] = ()) -> None:
    """Swap the layers of `network` in place; it is then for inference on a CPU alone.

    Args:
        network: in evaluation mode, with its final weights.
        precision: one of `PRECISIONS`.
        keep: names of layers that stay in float32 whatever `precision` is, as those whose output is
            the result should.
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    for path, module in list(network.named_modules()):
        for name, child in list(module.named_children()):
            whole = f"{path}.{name}" if path else name
            chosen = torch.float32 if whole in keep else dtype
            if type(child) is nn.Linear:
                setattr(module, name, FastLinear(child, chosen))
            elif type(child) is nn.Conv1d and child.groups == 1 and child.padding_mode == "zeros":
                setattr(module, name, FastConv1d(child, chosen))
            elif type(child) is nn.ConvTranspose1d and child.groups == 1:
                setattr(module, name, FastConvTranspose1d(child, chosen))
