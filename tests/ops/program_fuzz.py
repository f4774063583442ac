"""Mutated program tables through the engines: each is refused, or computed as PyTorch does.

Run as a process of its own, so that a crash is one failure: ``python -m tests.ops.program_fuzz SEED COUNT``.
"""

from __future__ import annotations

import random
import sys
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext import random as streams
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import _registry, train
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.ops._program import KINDS, check_program
from zoosparse_ext.population.program import (
    Activation,
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Program,
)

TOLERANCE = 2e-4  # of numbers near 1 to 10: float32 sums of some hundred terms in another order
EDGES = [
    -(2**63), -(2**32), -(2**31), -2, -1, 0, 1, 2, 3, 4, 5, 7, 2**16, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**32,
    2**32 + 1, 2**32 + 2, 2**62, 2**63 - 2, 2**63 - 1,
]  # fmt: skip
NUMBERS = [float("nan"), float("inf"), -0.5, 0.0, 0.3, 0.999999999999, 1.0, 1e300]

PROGRAMS: list[tuple[Program, tuple[int, int, int]]] = [
    (
        Program(
            (
                Conv2d("a", 1, 3, (3, 3)), MaxPool2d((2, 2), (2, 2)), Activation("leaky_relu", -0.3), Flatten(),
                Linear("b", 12, 4),
            )
        ),
        (1, 6, 6),
    ),
    (
        Program(
            (
                Conv2d("a", 2, 3, (2, 3), (2, 1), (1, 1)), Activation("gelu"), AvgPool2d((2, 2), (1, 1)),
                Conv2d("b", 3, 2, (1, 2), bias=False), Dropout(0.25), GlobalAvgPool2d(), Flatten(), Linear("c", 2, 3),
            )
        ),
        (2, 5, 4),
    ),
    (Program((Flatten(), Linear("a", 4, 5), Activation("tanh"), Linear("b", 5, 3, bias=False))), (1, 2, 2)),
    (Program((MaxPool2d((3, 2), (1, 2), (1, 0)), Conv2d("a", 1, 3, (4, 2)))), (1, 4, 4)),
    (Program((Conv2d("a", 1, 2, (2, 2)), Conv2d("b", 2, 3, (1, 1)))), (1, 2, 2)),
]  # fmt: skip


def encoded(program: Program, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, int]:
    offsets, columns = {}, 0
    for layer in program.layers:
        offsets[f"{layer.name}.weight"] = columns
        columns += torch.Size(layer.weight_shape).numel()
        offsets[f"{layer.name}.bias"] = columns
        columns += layer.weight_shape[0] * layer.bias
    return *program.encode(shape, offsets), columns


def wrapped(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def truncated(a: int, b: int) -> int:
    """Division as C does it: what a window that does not fit seems to give."""
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def mutate_window(draw: random.Random, row: list[int]) -> None:
    """Another window, with the output that a careless formula gives it."""
    for axis in (0, 1):
        if draw.random() < 0.7:
            row[7 + axis] = draw.choice([1, 2, 3, 5, 7, 2**24, row[7 + axis]])
            row[9 + axis] = draw.choice([1, 2, 3, 100, 2**24, row[9 + axis]])
            row[11 + axis] = draw.choice([0, 0, 1, 2, 3, 1000, 2**23])
        row[5 + axis] = wrapped(
            truncated(row[2 + axis] + 2 * row[11 + axis] - row[7 + axis], row[9 + axis]) + 1
        )


def mutate(draw: random.Random, table: list[list[int]], columns: int) -> None:
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        index = draw.randrange(len(table))
        row = table[index]
        kind = draw.randrange(6)
        if kind == 0:
            mutate_window(draw, row)
        elif kind == 1:  # columns of the weights near their ends
            row[draw.choice([13, 14])] = wrapped(
                draw.choice([columns, columns - 1, columns - row[4], 0, -1, -2, 2**63 - 1, 2**63 - row[4]])
                + draw.choice([-1, 0, 0, 1])
            )
        elif kind == 2:
            row[draw.randrange(18)] = draw.choice(EDGES)
        elif kind == 3:
            column = draw.randrange(18)
            row[column] = wrapped(row[column] + draw.choice([-1, 1, 2**32, -(2**32)]))
        elif kind == 4:
            table.insert(index, list(draw.choice(table)))
        elif len(table) > 1:
            del table[index]
        if draw.random() < 0.6:  # carry the shapes on, so that what is wrong lies in one place
            for before, after in pairwise(table):
                after[1:4] = before[4:7]
                if 0 <= after[0] < len(KINDS):
                    repair(KINDS[after[0]], after)


def repair(kind: str, row: list[int]) -> None:
    if kind in ("activation", "dropout"):
        row[4:7] = row[1:4]
    elif kind == "flatten":
        row[4:7] = [wrapped(row[1] * row[2] * row[3]), 1, 1]
    elif kind == "global_avg_pool2d":
        row[4:9] = [row[1], 1, 1, row[2], row[3]]
    elif kind in ("max_pool2d", "avg_pool2d"):
        row[4] = row[1]
    if kind in ("conv2d", "max_pool2d", "avg_pool2d"):
        for axis in (0, 1):
            row[5 + axis] = wrapped(
                truncated(row[2 + axis] + 2 * row[11 + axis] - row[7 + axis], row[9 + axis]) + 1
            )


def is_accepted(program: Tensor, values: Tensor, shape: tuple[int, ...], p: int) -> bool:
    try:
        check_program("fuzz", program, values, shape, p)
    except InputError:
        return False
    return True


def shares_columns(table: list[list[int]]) -> bool:
    used: set[int] = set()
    for row in table:
        if KINDS[row[0]] not in ("conv2d", "linear"):
            continue
        columns = list(range(row[13], row[13] + row[4] * row[1] * row[7] * row[8]))
        columns += list(range(row[14], row[14] + row[4])) if row[14] >= 0 else []
        if used.intersection(columns) or len(set(columns)) < len(columns):
            return True
        used.update(columns)
    return False


class Case:
    """One mutated table with the other arguments of the engines."""

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        program, self.shape = draw.choice(PROGRAMS)
        table, values, self.columns = encoded(program, self.shape)
        self.rows = table.tolist()
        mutate(draw, self.rows, self.columns)
        self.program = torch.tensor(self.rows, dtype=torch.int64).reshape(-1, 18)
        self.values = torch.zeros(len(self.rows), dtype=torch.float64)
        self.values[: len(values)] = values[: len(self.rows)]
        if draw.random() < 0.2:
            self.values[draw.randrange(len(self.values))] = draw.choice(NUMBERS)
        n, m = draw.choice([0, 1, 3, 3, 9]), draw.choice([0, 1, 6, 6, 17])
        self.weights = torch.randn(n, self.columns, generator=generator) * 0.5
        self.images = torch.rand(m, *self.shape, generator=generator)
        self.mean, self.std = torch.full(self.shape[:1], 0.4), torch.full(self.shape[:1], 0.6)
        classes = self.rows[-1][4]
        self.classes = classes if 1 <= classes <= 2**24 else 1
        self.labels = torch.randint(0, self.classes, (m,), generator=generator)
        samples = draw.choice([0, 1, 5, 8]) if m else 0
        self.order = torch.randint(0, max(1, m), (n, samples), generator=generator, dtype=torch.int32)
        self.is_accepted = is_accepted(self.program, self.values, self.shape, self.columns)
        self.is_finite = bool(self.values.isfinite().all()) and float(self.values.abs().max()) < 1e3

    def check(self) -> str:
        """What is wrong, or nothing."""
        return self.check_infer() or (self.check_train() if train.available() else "")

    def check_infer(self) -> str:
        shared = (self.weights, self.program, self.values, self.images, self.mean, self.std)
        try:
            scores = torch.ops.zoosparse.infer_scores(*shared, self.classes, self.draw.randrange(3))
            torch.ops.zoosparse.infer(*shared, self.labels, self.classes, self.draw.randrange(3))
        except ValueError as error:
            if "activations of a layer are too large" in str(error) or "at most 65536 classes" in str(error):
                return ""
            return "infer refuses" if self.is_accepted else ""
        if not self.is_accepted:
            return "infer accepts"
        expected = engine._scores_reference(*shared, self.classes, 0)
        return self.differs("scores", scores, expected)

    def differs(self, what: str, found: Tensor, expected: Tensor) -> str:
        if found.shape != expected.shape:
            return f"{what} have shape {list(found.shape)}"
        if not self.is_finite or found.numel() == 0:
            return ""
        largest = float(expected.abs().max())
        difference = float((found - expected).abs().max())
        return (
            ""
            if difference <= TOLERANCE * max(1.0, largest)
            else f"{what} differ by {difference} of {largest}"
        )

    def check_train(self) -> str:
        draw, n, (_, samples) = self.draw, len(self.weights), self.order.shape
        batch = draw.choice([1, 3, 100, 2**31, 2**63 - 1])
        steps = -(-samples // batch)
        wrong = draw.choice(
            [
                "",
                "",
                "",
                "",
                "clamp",
                "batch",
                "first_step",
                "crop",
                "order",
                "labels",
                "dropout",
                "lr_factor",
                "hyper",
            ]
        )
        refused = bool(wrong)
        weights = self.weights.clone()
        clamp = torch.ones(len(self.rows), dtype=torch.float64)
        first_step, crop, dropout = 0, 0, torch.empty(0)
        order, labels = self.order, self.labels
        factor = torch.ones(steps, dtype=torch.float64)
        hyper = torch.tensor([[0.1, 0, 0, 0, 0, 0]], dtype=torch.float64).repeat(n, 1)
        compared = True
        if wrong == "clamp":
            clamp = draw.choice(
                [clamp[1:], torch.ones(len(clamp) + 1).double(), -clamp, clamp * float("nan")]
            )
            refused = clamp.numel() > 0
        elif wrong == "batch":
            batch = draw.choice([0, -1, -(2**63)])
        elif wrong == "first_step":
            first_step = draw.choice([-1, -(2**63), 2**63 - 1, 2**32 + 1])
        elif wrong == "crop":
            crop = draw.choice([-1, 2**20, 2**32, 2**63 - 1, -(2**63)])
        elif wrong == "order":
            order = order + draw.choice([-(2**31), -1 - len(self.images), len(self.images)])
            refused = order.numel() > 0
        elif wrong == "labels":
            labels = labels + draw.choice([-(2**63), -self.classes, self.classes, 2**62])
            refused = labels.numel() > 0
        elif wrong == "dropout":
            dropout = torch.full((n,), draw.choice([float("nan"), -0.1, 1.0, float("inf")]))
            refused = n > 0
        else:
            compared = not wrong
            factor = factor * float("nan") if wrong == "lr_factor" else factor
            hyper = hyper * float("nan") if wrong == "hyper" else hyper
            refused = False
            crop = draw.choice([0, 0, 0, 1, 2**20 - 1])
            first_step = draw.choice([0, 0, 2**32 - steps])
        arguments = {
            "program": self.program, "values": self.values, "images": self.images, "mean": self.mean,
            "std": self.std, "labels": labels, "order": order, "batch_size": batch, "optimizer": "sgd",
            "hyper": hyper, "lr_factor": factor, "seeds": torch.arange(n), "moment1": torch.zeros_like(weights),
            "dropout": dropout, "clamp": clamp, "first_step": first_step, "crop": crop,
        }  # fmt: skip
        if variational := draw.random() < 0.2:
            arguments["log_sigma2"] = torch.full_like(weights, -6.0)
            arguments |= {name: torch.zeros_like(weights) for name in ("sigma_moment1", "sigma_moment2")}
        should = self.is_accepted and not refused and not shares_columns(self.rows)
        try:
            loss, _ = train.train_steps_(weights, **arguments)  # type: ignore[arg-type]
        except InputError:
            return f"train_steps_ refuses {wrong}" if should else ""
        if not should:
            return f"train_steps_ accepts {wrong}"
        if variational or not compared or crop or first_step or not self.is_finite:
            return ""
        expected, expected_loss = self.trained(batch)
        return self.differs("weights", weights, expected) or self.differs("losses", loss, expected_loss)

    def trained(self, batch: int) -> tuple[Tensor, Tensor]:
        """Plain gradient descent, model by model, on the graph that the table says."""
        weights, losses = self.weights.clone(), []
        pixels = (self.images - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)
        for model in range(len(weights)):
            row, total = weights[model].clone().requires_grad_(), torch.zeros((), dtype=torch.float64)
            order = self.order[model].long()
            for step, first in enumerate(range(0, len(order), batch)):
                places = order[first : first + batch]
                loss = F.cross_entropy(self.scores(row, pixels[places], model, step), self.labels[places])
                (gradient,) = torch.autograd.grad(loss, row)
                row = (row.detach() - 0.1 * gradient).requires_grad_()
                total += loss.detach().double() * len(places)
            weights[model] = row.detach()
            losses.append(total)
        return weights, torch.stack(losses) if losses else torch.empty(0, dtype=torch.float64)

    def scores(self, row: Tensor, hidden: Tensor, model: int, step: int) -> Tensor:
        for index, (fields, value) in enumerate(zip(self.rows, self.values.tolist(), strict=True)):
            if KINDS[fields[0]] == "dropout":
                stream = streams.stream_id(streams.DROPOUT, index)
                uniform = streams.uniform(
                    torch.tensor([model]), 0, hidden[0].numel(), step=step, stream=stream, samples=len(hidden)
                )
                kept = uniform.view(hidden.shape) >= value
                hidden = torch.where(kept, hidden / (1 - value), 0.0)
            else:
                hidden = engine._operation(fields, value, row, hidden)
        return hidden.flatten(1)


def main(first: int, count: int) -> int:
    torch.set_num_threads(2)
    accepted = 0
    for seed in range(first, first + count):
        print(seed, file=sys.stderr, flush=True)  # the last one says where a crash was
        if _registry.native is not None:
            levels = _registry.native.available_simd_levels()
            _registry.native.set_simd_level(levels[seed % len(levels)])
        case = Case(seed)
        accepted += case.is_accepted
        if wrong := case.check():
            print(f"case {seed}: {wrong}\n{case.rows}\n{case.values.tolist()}")
            return 1
    print(f"{count} tables, {accepted} accepted")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2])))
