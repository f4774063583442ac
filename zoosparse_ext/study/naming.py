"""What twins are called within their zoo: one series for each way of pruning and of training.

A series is named by its method and scope, and by what else decides which weights go, where that is not usual. The zoo
may have twins of this name that were trained in another way: then it is named by the difference as well.

In the zoo of a study, what its config says is usual.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.optimizers import Adam, Optimizer
from zoosparse_ext.sparsify.magnitude import magnitude_prune
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.sparsify.settings import Texts, differences, selection_texts, training_texts
from zoosparse_ext.sparsify.variational import objective_texts, variational_dropout
from zoosparse_ext.study.config import MagnitudeConfig, StudyConfig, VariationalConfig
from zoosparse_ext.study.inheritance import inherited
from zoosparse_ext.zoo import Zoo

SETTINGS = "twins"  # in the provenance of a zoo: the settings of every series, in words
VARIATIONAL = "variational"


def magnitude_series(
    zoo: Zoo, scope: str = "global", matched_to: str | None = None, **options: Any
) -> tuple[Series, Texts]:
    """The series of twins by magnitude, or by another score, and their settings in words.

    Args:
        scope: ``"global"``, ``"layer"``, ``"output"``, or an N:M pattern.
        matched_to: population of twins whose sparsity each is pruned to.
        options: of :func:`zoosparse_ext.magnitude_prune`; loss and augmentation are by default those of the zoo.
    """
    config = _of_study(zoo, "magnitude")
    texts = selection_texts(options.get("schedule", "one-shot"), options.get("biases", False))
    usual = selection_texts()
    if isinstance(config, MagnitudeConfig) and matched_to is None:  # a study prunes matched twins at once
        usual = selection_texts(config.schedule)
    selecting = list(differences({"biases": texts["biases"]}, usual))
    if options.get("score") == "random" and options.get("seed", 0) != 0:
        selecting += differences({"seed": f"seed {options['seed']}"}, {})
    if matched_to is not None and matched_to != VARIATIONAL:
        selecting.append(f"to {Series.parse(matched_to).label}".replace(",", ""))
    base = Series(
        options.get("score", "magnitude"),
        scope,
        None if texts["schedule"] == usual["schedule"] else texts["schedule"],
        tuple(selecting),
        matched_to is not None,
    )
    training = _training(zoo, magnitude_prune, Adam(), options)
    return _series(zoo, base, texts, training, config or MagnitudeConfig())


def variational_series(zoo: Zoo, **options: Any) -> tuple[Series, Texts]:
    """The series of twins by variational dropout, and their settings in words.

    Args:
        options: of :func:`zoosparse_ext.variational_dropout`; loss and augmentation are by default those of the zoo.
    """
    config = _of_study(zoo, "variational")
    usual = objective_texts()
    if isinstance(config, VariationalConfig):
        usual = objective_texts(config.preset, config.threshold)
    given = {name: options[name] for name in ("preset", "threshold", "epochs") if name in options}
    texts = objective_texts(**given)
    base = Series(VARIATIONAL, options=differences(texts, usual))
    training = _training(zoo, variational_dropout, Adam(lr=3e-4), options)
    return _series(zoo, base, texts, training, config or VariationalConfig())


def variational_population(zoo: Zoo, name: str | None = None) -> str:
    """The population of twins by variational dropout that has this name, or the only one.

    Raises:
        InputError: there is none, or none of this name; there are several, and none was named.
    """
    found = [name for name in zoo.populations if "@" not in name and Series.parse(name).method == VARIATIONAL]
    if name is None and len(found) > 1:
        raise InputError(
            f"the zoo has several populations by variational dropout: {', '.join(found)}; name one: to={found[0]!r} "
            f"(--to {found[0]})"
        )
    name = name or (found[0] if found else VARIATIONAL)
    if name not in zoo.populations:
        raise InputError(
            f"matched twins need twins {name!r} first, the zoo has {', '.join(zoo.populations)}; run "
            "`zoosparse vardrop`"
        )
    return name


def _series(
    zoo: Zoo, base: Series, selection: Texts, training: Texts, config: MagnitudeConfig | VariationalConfig
) -> tuple[Series, Texts]:
    """The base, or a further series if twins of that name were trained in another way."""
    settings = {**selection, **training}
    if (there := _trained(zoo, base, config)) is None:
        return base, settings
    return replace(base, options=(*base.options, *differences(training, there))), settings


def _trained(zoo: Zoo, base: Series, config: MagnitudeConfig | VariationalConfig) -> Texts | None:
    """How the twins of a name were trained, or in a study will be; None if there are none."""
    recorded = zoo.provenance.get(SETTINGS, {}).get(base.key)
    if recorded is not None:
        return dict(recorded)
    of_study = _of_study(zoo, "variational" if base.method == VARIATIONAL else "magnitude") is not None
    if base.key not in zoo.populations and not of_study:
        return None
    epochs, seed = config.epochs, zoo.provenance.get("settings", {}).get("seed", 0) if of_study else 0
    if not of_study:  # made by a command of an earlier version, at defaults as far as is known
        ids = {id for group in zoo.groups(base.key) for id in group.ids}
        last = zoo.twins.loc[zoo.twins["twin_id"].isin(ids), "epoch"].max()
        epochs = int(last) if last == last else epochs
    return training_texts(
        epochs=epochs,
        optimizer=config.optimizer.build(),
        batch_size=config.batch_size,
        lr_schedule=config.lr_schedule,
        seed=seed,
        **inherited(zoo),
    )


def _training(zoo: Zoo, method: Callable[..., Any], optimizer: Optimizer, options: dict[str, Any]) -> Texts:
    """How a method is going to train twins of a zoo."""
    names = ("epochs", "optimizer", "batch_size", "lr_schedule", "loss", "augment", "order", "seed")
    usual = {name: inspect.signature(method).parameters[name].default for name in names}
    chosen = {**usual, **inherited(zoo), **{name: options[name] for name in names if name in options}}
    return training_texts(**{**chosen, "optimizer": chosen["optimizer"] or optimizer})


def _of_study(zoo: Zoo, section: str) -> MagnitudeConfig | VariationalConfig | None:
    """A section of the config of the study that made a zoo, if one did."""
    settings = zoo.provenance.get("settings")
    if not isinstance(settings, dict) or not isinstance(settings.get(section), dict):
        return None
    try:
        config = StudyConfig.model_validate({section: settings[section]})
    except ValidationError as error:
        raise InputError(
            f"the zoo says that a study made it, but its settings of {section} cannot be read: {error}"
        ) from error
    found: MagnitudeConfig | VariationalConfig = getattr(config, section)
    return found
