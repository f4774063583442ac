"""One way to time: validate, warm up, alternate ours and its rivals round by round, compare medians.

A benchmark is a test that takes `race`. pytest-benchmark times ours; each of its rounds is preceded by one round of
every rival, so that a slow minute of the machine slows all of them.

Whoever runs next finds caches, branch predictors and the allocator as the one before left them, so a place in a fixed
order is worth something: ours, always behind the last rival, lost up to half of a 10 ms race to what a second of
`torch.load` had thrown out. So every contender, ours as well, runs once untimed directly before each of its timed runs,
and the rivals of a round come in an order drawn anew. Figures are therefore those of warm caches, for everyone.

The table comes after the run:

    pytest benchmarks/magnitude.py                 the table
    pytest benchmarks/magnitude.py --results       the same, and JSON in benchmarks/results/
    pytest benchmarks/magnitude.py --device cuda   on a GPU, timed by the device's own clock
    zoosparse bench magnitude                      the same from an installed package
    ZOOSPARSE_SIMD=baseline pytest benchmarks/…    another instruction set
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from zoosparse_ext.ops import _registry

RESULTS = Path(__file__).parent / "results"
PAUSE_S = 0.02  # before every contender: threads of the one before it may still wait for work in a loop
BUDGET_S = 3.0  # a rival is timed in every round until its timed runs took this much, but at least twice


@dataclass
class Contender:
    """`run(*setup())` is timed without `setup`; `run` returns what `validate` looks at."""

    run: Callable[..., Any]
    setup: Callable[[], tuple[Any, ...]] = tuple
    validate: bool = True

    def ready(self, device: str) -> tuple[Any, ...]:
        """Arguments of a run that is to be timed at once: the contender has just run, untimed."""
        time.sleep(PAUSE_S)
        self.run(*self.setup())
        if device == "cuda":
            torch.cuda.synchronize()
        return self.setup()

    def time(self, device: str) -> float:
        """Seconds of one round."""
        return stopwatch(device, self.run, self.ready(device))


def roof(device: str, flops: int) -> tuple[str, Contender]:
    """So much float32 arithmetic and nothing else."""
    if device == "cpu":
        native = _registry.native
        assert native is not None
        return "multiply-adds alone", Contender(lambda: native.multiply_adds(flops // 2), validate=False)
    side = 8192
    rows = max(1, round(flops / (2 * side**2)))
    a, b = torch.randn(rows, side, device=device), torch.randn(side, side, device=device)
    return "float32 matrix product", Contender(lambda: a @ b, validate=False)


@dataclass
class Result:
    """Medians in seconds of one race; `roof` names the contender that does nothing but the necessary work."""

    name: str
    work: int  # bytes moved or floating-point operations
    roof: str | None
    unit: str
    seconds: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)


_results: list[tuple[Path, Result]] = []


def stopwatch(device: str, run: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Seconds of `run(*arguments)`; on a GPU those of its kernels, without the time that the host takes to launch."""
    if device == "cpu":
        begin = time.perf_counter()
        run(*arguments)
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(2_000_000)  # about a millisecond, during which the host queues what follows
    start.record()
    run(*arguments)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--results",
        nargs="?",
        const=RESULTS,
        help="write <benchmark>.json into this folder; default: results/",
    )
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="where to run")
    parser.addoption("--models", type=int, help="of benchmarks/evaluate.py")
    parser.addoption("--images", type=int, help="of benchmarks/evaluate.py")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """Where the benchmark runs, "cpu" or "cuda"."""
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.fail("--device cuda: torch sees no CUDA device", pytrace=False)
    return name


@pytest.fixture
def race(benchmark: Any, request: pytest.FixtureRequest, device: str) -> Callable[..., None]:
    """race(ours, rivals, ...): one group of the benchmark. The first contender is ours."""

    def run(
        contenders: dict[str, Contender],
        *,
        bytes_moved: int = 0,
        flops: int = 0,
        roof: str | None = None,
        same: Callable[[Any, Any], bool] = torch.equal,
        rounds: int = 15,
    ) -> None:
        (our_name, ours), *rivals = contenders.items()
        expected = ours.run(*ours.setup())
        for name, rival in rivals:
            if rival.validate:
                assert same(rival.run(*rival.setup()), expected), f"{name} and {our_name} disagree"

        times: dict[str, list[float]] = {name: [] for name in contenders}
        order = random.Random(0)

        def round_of_rivals() -> tuple[tuple[Any, ...], dict[str, Any]]:
            for name, rival in order.sample(rivals, len(rivals)):
                if len(times[name]) < 2 or sum(times[name]) < BUDGET_S:
                    times[name].append(rival.time(device))
            return ours.ready(device), {}

        def ours_on_device(*arguments: Any) -> None:
            times[our_name].append(stopwatch(device, ours.run, arguments))

        benchmark.group = request.node.name
        timed = ours.run if device == "cpu" else ours_on_device
        benchmark.pedantic(timed, setup=round_of_rivals, rounds=rounds)
        if benchmark.stats is None:  # --benchmark-disable: validated, not timed
            return
        if device == "cpu":
            times[our_name] = list(benchmark.stats.stats.data)
        result = Result(request.node.name, flops or bytes_moved, roof, "GFLOP/s" if flops else "GB/s")
        for name, measured in times.items():
            result.seconds[name] = statistics.median(measured)
            result.rounds[name] = len(measured)
        benchmark.extra_info.update(asdict(result), machine=machine(device))
        _results.append((Path(request.node.path), result))

    return run


def machine(device: str = "cpu") -> dict[str, str | int]:
    """What a figure means nothing without."""
    facts: dict[str, str | int] = {
        "cpu": _cpu_name(),
        "kernels": _registry.native.simd_level() if _registry.native else "reference",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device == "cuda":
        built = _registry.native is not None and _registry.native.build_info()["cuda"]
        facts |= {"gpu": torch.cuda.get_device_name(), "kernels": "cuda" if built else "reference"}
    return facts


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not _results:
        return
    facts = machine(config.getoption("--device"))
    write = terminalreporter.write_line
    terminalreporter.section("ours and its rivals")
    where = facts.get("gpu", facts["cpu"])
    write(f"{where}, {facts['threads']} threads, kernels {facts['kernels']}, torch {facts['torch']}")
    for _, result in _results:
        write("")
        for line in table(result):
            write(line)
    if config.getoption("--results"):
        for path in {path for path, _ in _results}:
            target = Path(config.getoption("--results")) / f"{path.stem}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            races = _races_before(target, facts)
            races |= {result.name: asdict(result) for where, result in _results if where == path}
            content = {"machine": facts, "races": list(races.values())}
            target.write_text(json.dumps(content, indent=1) + "\n")
            write(f"\nwritten: {target}")


def _races_before(target: Path, facts: dict[str, str | int]) -> dict[str, Any]:
    """What the file holds of the same machine: a run of some races leaves the others as they are."""
    if not target.exists():
        return {}
    content = json.loads(target.read_text())
    return {race["name"]: race for race in content["races"]} if content["machine"] == facts else {}


def table(result: Result) -> list[str]:
    """The lines of one race: milliseconds, times ours, rate of necessary work if it was told, share of the roof."""
    ours = next(iter(result.seconds.values()))
    roof = result.seconds[result.roof] if result.roof else None
    unit = f" {result.unit:>7}" if result.work else ""
    lines = [f"{result.name:<44} {'ms':>9} {'× ours':>8}" + unit + (f" {'of roof':>8}" if roof else "")]
    for name, seconds in result.seconds.items():
        rate = f" {result.work / seconds / 1e9:7.1f}" if result.work else ""
        share = f" {roof / seconds:8.0%}" if roof else ""
        lines.append(f"  {name:<42} {1e3 * seconds:9.2f} {seconds / ours:8.2f}{rate}{share}")
    return lines


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
