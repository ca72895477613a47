"""Other weights for the same answers, which integers hold better: fewer biases, columns of equal size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.export.folded_weights import Block, FoldedWeights, Linear

MOST_STRETCH = 16.0
"""Of a value, so that its weights make use of all levels: it has 16 bits, and some to spare."""


def deferred_biases(weights: FoldedWeights) -> FoldedWeights:
    """Weights for the same answers with fewer biases: zeros for key, value, output and contract.

    A constant in the residual stream is added by whoever reads the stream, in the bias that it has anyway. A
    constant in the values passes through attention, whose weights sum to 1. One in the keys adds the same to all
    scores of a query, which changes no softmax.
    """
    shift = np.zeros(weights.positions.shape[1])
    blocks = []

    def seeing(layer: Linear) -> Linear:
        return Linear(layer.weight, layer.bias + shift @ layer.weight)

    for block in weights.blocks:
        query = seeing(block.query)
        shift = shift + seeing(block.value).bias @ block.output.weight + block.output.bias
        expand = seeing(block.expand)
        shift = shift + block.contract.bias
        key, value, output, contract = (
            Linear(layer.weight, np.zeros_like(layer.bias))
            for layer in (block.key, block.value, block.output, block.contract)
        )
        blocks.append(Block(query, key, value, output, expand, contract))
    return replace(weights, blocks=tuple(blocks), lstm_input=seeing(weights.lstm_input))


def equalised(weights: FoldedWeights) -> FoldedWeights:
    """Weights for the same answers whose first matrix, the one that minds rounding most, has columns of equal size.

    Channels of the residual stream are stretched for that, and the rows of the matrices that read them shrunk.
    """
    largest = np.maximum(np.abs(weights.project).max(axis=0), 1e-9)
    stretch = np.clip(np.exp(np.log(largest).mean()) / largest, 1 / MOST_STRETCH, MOST_STRETCH)

    def reading(layer: Linear) -> Linear:
        return Linear(layer.weight / stretch[:, None], layer.bias)

    def writing(layer: Linear) -> Linear:
        return Linear(layer.weight * stretch, layer.bias * stretch)

    blocks = tuple(
        Block(
            query=reading(block.query),
            key=reading(block.key),
            value=reading(block.value),
            output=writing(block.output),
            expand=reading(block.expand),
            contract=writing(block.contract),
        )
        for block in weights.blocks
    )
    return replace(
        weights,
        project=weights.project * stretch,
        positions=weights.positions * stretch,
        blocks=blocks,
        lstm_input=reading(weights.lstm_input),
    )
