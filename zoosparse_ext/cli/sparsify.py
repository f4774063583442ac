"""`zoosparse sparsify`, `prune`, `vardrop` and `control`: sparse twins of a zoo, and what they are compared with.

Every command takes the keys of a section of a study as flags, with its defaults.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import print_json, print_table, resumable, training_bar
from zoosparse_ext.cli.derived import flags, parameters_of, section_of, with_flags, with_panel
from zoosparse_ext.errors import InputError
from zoosparse_ext.options import options_of
from zoosparse_ext.sparsify.methods import METHODS, method_class
from zoosparse_ext.sparsify.scopes import SCOPES
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.study.method_config import (
    SECTIONS,
    LearnedConfig,
    MagnitudeConfig,
    RankingConfig,
    VariationalConfig,
)
from zoosparse_ext.study.naming import (
    VARIATIONAL,
    control_series,
    learned_series,
    magnitude_series,
    variational_population,
)
from zoosparse_ext.study.populations import earlier_epoch, lacking_ratios
from zoosparse_ext.study.resume import resume_folder
from zoosparse_ext.study.stages import (
    RATIOS,
    add_control_twins,
    add_learned_twins,
    add_magnitude_twins,
    add_matched_twins,
    ratios_text,
)
from zoosparse_ext.study.twin_config import TwinConfig
from zoosparse_ext.study.unfinished import begun as begun_in
from zoosparse_ext.study.unfinished import place
from zoosparse_ext.words import Texts
from zoosparse_ext.zoo import Zoo

_MP = MagnitudeConfig()
KEPT = ",".join(map(str, _MP.matched_epochs))
# Keys of sections that commands have in another form, or not at all.
_OTHERWISE = ("seed", "control")


def _of_all(
    *,
    optimizer: o.TwinOptimizer = None,
    lr: o.TwinLearningRate = None,
    weight_decay: o.TwinWeightDecay = None,
    momentum: o.TwinMomentum = None,
    loss: o.InheritedLoss = None,
    crop: o.InheritedCrop = None,
    flip: o.InheritedFlip = None,
    seed: o.Seed = 0,
    data: o.DataSpec = None,
    replace: o.Replace = False,
    allow_nan: o.AllowNan = False,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Flags of every command that makes twins."""


def _of_rankings(
    *,
    ratios: Annotated[
        str | None,
        typer.Option(
            help=f"0.5,0.8,0.9 or first:last:step. Default: {','.join(map(str, RATIOS))}.", show_default=False
        ),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(SCOPES)}. Default: global.", show_default=False),
    ] = None,
    matched: Annotated[
        bool,
        typer.Option("--matched", help="Prune each model to the sparsity of its variational twin instead."),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", help="With --matched: the population of these twins, where there are several."),
    ] = None,
    at_epoch: Annotated[
        int | None,
        typer.Option(
            "--at-epoch",
            help="With --matched: take the sparsity of these twins after this epoch, and fine-tune for as many epochs. "
            "Default: their last epoch.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help=f"Passes over the training images. Default: {_MP.epochs}, or those of --at-epoch.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Flags of methods that rank weights."""


def _of_learned(*, keep: o.Keep = KEPT) -> None:
    """Flags of what is trained for a sparsity of its own, and of controls."""


_RANKING = [*parameters_of(_of_rankings), *flags(RankingConfig, _OTHERWISE), *parameters_of(_of_all)]
_LEARNED = [*flags(VariationalConfig, _OTHERWISE), *parameters_of(_of_learned), *parameters_of(_of_all)]
_CONTROL = [*flags(TwinConfig, _OTHERWISE), *parameters_of(_of_learned), *parameters_of(_of_all)]


@with_flags(_RANKING)
def prune(zoo_path: o.ZooPath, **options: Any) -> None:
    """Magnitude-prune every model of a zoo at every ratio, and fine-tune with the masks held.

    Twins at further ratios are added to those that are there; with other settings they are a population beside them.

    [bold]Examples[/]

    zoosparse prune my-zoo

    zoosparse prune my-zoo --ratios 0.5,0.9 --scope layer --epochs 5

    zoosparse prune my-zoo --matched
    """
    _rank("prune", MagnitudeConfig, zoo_path, options)


@with_flags(_LEARNED)
def vardrop(zoo_path: o.ZooPath, **options: Any) -> None:
    """Sparsify every model of a zoo by variational dropout.

    With other settings than the twins that are there, they are a population beside them.

    [bold]Examples[/]

    zoosparse vardrop my-zoo

    zoosparse vardrop my-zoo --kl-scale 10

    zoosparse vardrop my-zoo --preset molchanov --epochs 50
    """
    _learn("vardrop", VariationalConfig, zoo_path, options)


@with_flags(_CONTROL)
def control(zoo_path: o.ZooPath, **options: Any) -> None:
    """Train every model of a zoo on without pruning it: what sparse twins of equal training are compared with.

    [bold]Example[/]

    zoosparse control my-zoo
    """
    job = _Job("control", TwinConfig, zoo_path, options)
    series, texts = control_series(job.zoo, job.begun, **job.settings)
    job.make(series, texts, "train on without pruning", add_control_twins, keep=job.keep)


def _method_flags() -> list[inspect.Parameter]:
    """The options of every method, each in a panel of the help, without defaults: which method it is comes later."""
    owners: dict[str, list[str]] = {}
    for name, cls in METHODS.items():
        for item in options_of(cls):
            owners.setdefault(item.name, []).append(name)
    found: dict[str, inspect.Parameter] = {}
    for name, cls in METHODS.items():
        own = {item.name for item in options_of(cls)}
        others = [key for key in SECTIONS[name].model_fields if key not in own]
        for flag in flags(SECTIONS[name], others, unset=True):
            panel = f"With --method {', '.join(owners[flag.name])}"
            found[flag.name] = with_panel(flag, panel, found.get(flag.name))
    return list(found.values())


@with_flags([*_RANKING, *parameters_of(_of_learned), *_method_flags()])
def sparsify(
    zoo_path: o.ZooPath,
    method: Annotated[str, typer.Option("--method", help=f"{', '.join(METHODS)}.")] = "magnitude",
    **options: Any,
) -> None:
    """Make sparse twins of every model of a zoo by any method.

    [bold]Examples[/]

    zoosparse sparsify my-zoo --method random --ratios 0.5,0.9

    zoosparse sparsify my-zoo --method wanda --scope output

    zoosparse sparsify my-zoo --method log_alpha --ratios 0.8
    """
    cls = method_class(method)
    section = SECTIONS[cls.name]
    own = [item.name for item in options_of(cls)]
    _refuse(options, {item.name for item in _method_flags()} - set(own), method, own)
    options = {key: value for key, value in options.items() if key not in own or value is not None}
    if issubclass(section, RankingConfig):
        _refuse(options, {"keep"}, method, own)
        _rank("sparsify", section, zoo_path, options)
        return
    assert issubclass(section, LearnedConfig)
    of_rankings = [*parameters_of(_of_rankings), *flags(RankingConfig, TwinConfig.model_fields)]
    asks = "ratios" in section.model_fields
    others = {item.name for item in of_rankings} - {"epochs", *(["ratios"] if asks else [])}
    _refuse(options, others, method, own)
    if options["epochs"] is None:
        del options["epochs"]
    if asks:
        options["ratios"] = list(RATIOS) if options["ratios"] is None else o.parse_ratios(options["ratios"])
    _learn("sparsify", section, zoo_path, options)


def _refuse(options: dict[str, Any], names: set[str], method: str, own: list[str]) -> None:
    """Take out flags that a method does not have.

    Raises:
        InputError: one of them was given.
    """
    usual = {item.name: item.default for item in inspect.signature(sparsify).parameters.values()}
    for name in names:
        if options.pop(name) != usual[name]:
            told = ", ".join(_flag(key) for key in own) or "none"
            raise InputError(
                f"{_flag(name)} is not an option of the method {method!r}; its options are {told}"
            )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


class _Job:
    """A command that makes twins: its zoo, its data, and how the twins are made and trained.

    Args:
        command: its name, for messages.
        section: of a study, whose keys are among the options.
        options: values of all flags.
    """

    def __init__(self, command: str, section: type[TwinConfig], path: Path, options: dict[str, Any]) -> None:
        values = {key: value for key, value in options.items() if key in section.model_fields}
        self.section = section_of(section, command, {**values, "optimizer": "source"})
        self.path, self.options = path, options
        self.zoo = Zoo.open(path)
        self.images = o.data_of(self.zoo, options["data"])
        chosen = [options[name] for name in ("optimizer", "lr", "weight_decay", "momentum")]
        self.settings = {
            **self.section.options(options["seed"]),
            "optimizer": o.twin_optimizer(*chosen),
            **o.task_of(self.zoo, options["loss"], options["crop"], options["flip"]),
        }
        self.begun = begun_in(resume_folder(path), of_commands=True)

    @property
    def keep(self) -> tuple[int, ...]:
        """The epochs to keep, where the command has such a flag."""
        return o.parse_epochs(self.options["keep"], self.section.epochs)

    def make(self, series: Series, texts: Texts, title: str, add: Callable[..., Zoo], **more: Any) -> None:
        """Make the twins of a series, with their epochs kept meanwhile; save them, and print what they are like."""
        running = {name: self.options[name] for name in ("allow_nan", "device", "replace")}
        work = place(series.key, texts, self.begun)
        with resumable(self.path, work) as checkpoint, training_bar(title) as progress:
            zoo = add(
                self.zoo,
                self.images,
                checkpoint=checkpoint,
                progress=progress,
                begun=self.begun,
                **self.settings,
                **running,
                **more,
            )
            zoo.save(self.path)
        _print_twins(zoo, series, self.options["as_json"])


def _rank(command: str, section: type[RankingConfig], path: Path, options: dict[str, Any]) -> None:
    """Twins by a method that ranks weights: at ratios, or matched to others."""
    ratios, scope, to, at_epoch = (options[name] for name in ("ratios", "scope", "to", "at_epoch"))
    wanted = list(RATIOS) if ratios is None else o.parse_ratios(ratios)
    scope = "global" if scope is None else scope
    matched = options["matched"]
    if matched and ratios is not None:
        raise InputError(
            "--ratios says how sparse twins become, --matched that they become as sparse as others; leave out one of "
            "them"
        )
    for name, value in (("--to", to), ("--at-epoch", at_epoch)):
        if value is not None and not matched:
            raise InputError(
                f"{name} says what --matched twins are matched to; add --matched, or leave it out"
            )
    zoo = Zoo.open(path)
    source = variational_population(zoo, to) if matched else None
    earlier = None if source is None else earlier_epoch(zoo, source, at_epoch)
    if options["epochs"] is None:
        options = {
            **options,
            "epochs": section.model_fields["epochs"].default if earlier is None else earlier,
        }
    job = _Job(command, section, path, {**options, "ratios": wanted})
    assert isinstance(job.section, RankingConfig)
    job.settings |= {"score": job.section.ranking(), **vars(job.section.pruning())}
    series, texts = magnitude_series(job.zoo, scope, source, earlier, job.begun, **job.settings)
    words = [*(["matched"] if matched else []), scope, *([] if earlier is None else [f"epoch {earlier}"])]
    title = f"{'prune' if section is MagnitudeConfig else section.method.label} ({', '.join(words)})"
    if source is not None:
        job.make(series, texts, title, add_matched_twins, scope=scope, to=source, epoch=earlier)
    else:
        lacking = lacking_ratios(job.zoo, series.key, wanted, replacing=options["replace"])
        texts = {**texts, "ratios": ratios_text(lacking)}
        job.make(series, texts, title, add_magnitude_twins, ratios=wanted, scope=scope)


def _learn(command: str, section: type[LearnedConfig], path: Path, options: dict[str, Any]) -> None:
    """Twins by a method that learns what to keep."""
    job = _Job(command, section, path, options)
    assert isinstance(job.section, LearnedConfig)
    job.settings["method"] = method = job.section.learned()
    series, texts = learned_series(job.zoo, begun=job.begun, **job.settings)
    ratios = job.section.asked()
    more = {} if ratios is None else {"ratios": ratios}
    texts = texts if ratios is None else {**texts, "ratios": ratios_text(ratios)}
    job.make(series, texts, method.phrase, add_learned_twins, keep=job.keep, **more)


def _print_twins(zoo: Zoo, series: Series, as_json: bool) -> None:
    """Medians over the models after the last epoch, per ratio."""
    ids = {twin for group in zoo.groups(series.key) for twin in group.ids}
    rows = zoo.twins[zoo.twins.twin_id.isin(ids)]
    final = rows[rows.epoch == rows.epoch.max()].assign(target=lambda frame: frame.target.round(6))
    single = series.matched or series.method == VARIATIONAL  # every model has a ratio of its own, or none
    groups = final.groupby("method" if single else "target", dropna=False)
    table: pd.DataFrame = groups[["sparsity", "accuracy", "agreement", "kappa"]].median().reset_index()
    if as_json:
        print_json({"population": series.key, "twins": len(ids), "median": table})
    else:
        shares = ("target", "sparsity", "accuracy", "agreement")
        print_table(table, f"{series.key}: medians of {len(final)} twins", shares)
