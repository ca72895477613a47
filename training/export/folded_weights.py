"""The weights of a forecaster as its exports need them: norms and the attention scale are folded away.

Every BatchNorm is folded into the next linear layer: for ``y = norm(x) @ W + b`` and ``norm(x) = s * x + t`` that is
``y = x @ (s[:, None] * W) + (b + t @ W)``. The attention scale is folded into the query, the temperature into the
last layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.network.forecaster_files import ForecasterMeta


@dataclass(frozen=True)
class Linear:
    """x @ weight + bias; weight (n_in, n_out), bias (n_out,), float32."""

    weight: np.ndarray
    bias: np.ndarray

    def after(self, norm: Affine) -> Linear:
        """Fold in the affine map before this layer; summed in float64, for the rounding's sake."""
        weight = self.weight.astype(np.float64)
        bias = self.bias + norm.shift @ weight
        return Linear((norm.scale[:, None] * weight).astype(np.float32), bias.astype(np.float32))

    def times(self, factor: float) -> Linear:
        """Scale the output."""
        return Linear(
            (self.weight * factor).astype(np.float32, copy=False),
            (self.bias * factor).astype(np.float32, copy=False),
        )


@dataclass(frozen=True)
class Affine:
    """What a BatchNorm does at inference: scale * x + shift; (n,) float64."""

    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Block:
    """One attention block after folding; the projections map (width,) to (width,), heads side by side."""

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    expand: Linear
    contract: Linear


@dataclass(frozen=True)
class FoldedWeights:
    """All weights of the inference function."""

    project: np.ndarray
    """(F, width); its bias is part of `positions`."""
    positions: np.ndarray
    """(window, width), added to the projected features."""
    blocks: tuple[Block, ...]
    lstm_input: Linear
    """(width, 4 units) in the order of Keras: input, forget, cell, output gate."""
    lstm_recurrent: np.ndarray
    """(units, 4 units)."""
    hidden: Linear
    direction: Linear
    quantile_raw: Linear
    volatility_raw: Linear


def fold_weights(model: Any, meta: ForecasterMeta) -> FoldedWeights:
    """Read the weights of a Keras forecaster by layer name and fold the norms away."""

    def arrays(name: str) -> list[np.ndarray]:
        return [np.asarray(weight, np.float32) for weight in model.get_layer(name).get_weights()]

    def linear(name: str) -> Linear:
        return Linear(*arrays(name))

    def norm(name: str) -> Affine:
        gamma, beta, mean, variance = (weight.astype(np.float64) for weight in arrays(name))
        scale = gamma / np.sqrt(variance + model.get_layer(name).epsilon)
        return Affine(scale, beta - mean * scale)

    def block(k: int) -> Block:
        width = meta.config.width
        query, query_bias, key, key_bias, value, value_bias, out, out_bias = arrays(f"block{k}_attention")
        before = norm(f"block{k}_attention_norm")

        def projection(weight: np.ndarray, bias: np.ndarray) -> Linear:
            return Linear(weight.reshape(width, width), bias.reshape(width)).after(before)

        return Block(
            query=projection(query, query_bias).times(1 / math.sqrt(width // meta.config.heads)),
            key=projection(key, key_bias),
            value=projection(value, value_bias),
            output=Linear(out.reshape(width, width), out_bias),
            expand=linear(f"block{k}_ff_expand").after(norm(f"block{k}_ff_norm")),
            contract=linear(f"block{k}_ff_contract"),
        )

    project, after = linear("project"), norm("project_norm")
    shift = project.bias * after.scale + after.shift
    lstm_kernel, lstm_recurrent, lstm_bias = arrays("lstm")
    return FoldedWeights(
        project=(project.weight * after.scale).astype(np.float32),
        positions=(arrays("positions")[0] + shift).astype(np.float32),
        blocks=tuple(block(k) for k in range(meta.config.blocks)),
        lstm_input=Linear(lstm_kernel, lstm_bias).after(norm("lstm_norm")),
        lstm_recurrent=lstm_recurrent,
        hidden=linear("head_hidden").after(norm("head_norm")),
        direction=linear("direction_logits").times(1 / meta.calibration.temperature),
        quantile_raw=linear("quantile_raw"),
        volatility_raw=linear("volatility_raw"),
    )
