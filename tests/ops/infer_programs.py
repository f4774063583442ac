"""Random programs for the inference engine."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.ops.infer_nets import Net
from zoosparse_ext.population.program import (
    ACTIVATIONS,
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Operation,
    Program,
    Shape,
)


@st.composite
def nets(draw: st.DrawFn) -> Net:
    """Chains of up to five operations on planes, then a head; all kinds of windows, some fuse, some do not."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 14)), draw(st.integers(1, 14)))
    operations: list[Operation] = []
    size = shape
    for index in range(draw(st.integers(0, 5))):
        operation = draw(plane_operation(f"conv{index}", size))
        operations.append(operation)
        size = operation.output_shape(size)
    if draw(st.booleans()):
        operations.append(GlobalAvgPool2d())
    operations.append(Flatten())
    features = Program((*operations,)).shapes(shape)[-1][0]
    if draw(st.booleans()):
        hidden = draw(st.integers(1, 10))
        operations += [Linear("hidden", features, hidden, draw(st.booleans())), draw(activations())]
        features = hidden
    operations.append(Linear("head", features, draw(st.integers(1, 11)), draw(st.booleans())))
    return Net(Program(tuple(operations)), shape)


def activations() -> st.SearchStrategy[Activation]:
    slopes = st.sampled_from([0.01, 0.3, -0.5])
    return st.builds(Activation, st.sampled_from(sorted(ACTIVATIONS)), slopes)


@st.composite
def plane_operation(draw: st.DrawFn, name: str, size: Shape) -> Operation:
    """An operation that leaves something of a plane of this size."""
    kind = draw(st.sampled_from(["conv", "conv", "pool two", "max", "average", "activation", "dropout"]))
    channels, height, width = size
    if kind == "activation":
        return draw(activations())
    if kind == "dropout" or (kind == "pool two" and min(height, width) < 2):
        return Dropout(0.5)
    if kind == "pool two":
        return MaxPool2d((2, 2), (2, 2))
    padding = (draw(st.integers(0, 2)), draw(st.integers(0, 2))) if kind != "average" else (0, 0)
    low = [2 * p if kind == "max" else 1 for p in padding]
    high = [min(5, side + 2 * p) for side, p in zip((height, width), padding, strict=True)]
    if any(a > b for a, b in zip(low, high, strict=True)):
        return Dropout(0.5)
    kernel = tuple(draw(st.integers(max(1, a), b)) for a, b in zip(low, high, strict=True))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if kind == "max":
        return MaxPool2d(kernel, stride, padding)
    if kind == "average":
        return AvgPool2d(kernel, stride)
    return Conv2d(name, channels, draw(st.integers(1, 7)), kernel, stride, padding, draw(st.booleans()))
