"""What twins are called within their zoo: one series for each way of pruning and of training.

A series is named by its method and scope, and by what else decides which weights go, where that is not usual. The zoo
may have twins of this name that were trained in another way: then it is named by the difference as well.

In the zoo of a study, what its config says is usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoosparse_ext.errors import InputError
from zoosparse_ext.options import options_of, taken
from zoosparse_ext.population.optimizers import Adam, Optimizer, optimizer_texts
from zoosparse_ext.population.training import TRAINING, Training
from zoosparse_ext.sparsify.learned import EPOCHS
from zoosparse_ext.sparsify.methods import LearnedMethod, Ranking, chosen_method, method_class
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.series import Series
from zoosparse_ext.sparsify.settings import differences
from zoosparse_ext.study.inheritance import SourceOptimizer, inherited
from zoosparse_ext.study.method_config import SECTIONS, LearnedConfig, RankingConfig
from zoosparse_ext.study.stored import stored_config
from zoosparse_ext.study.twin_config import TwinConfig
from zoosparse_ext.words import Texts, number_text
from zoosparse_ext.zoo import Zoo

SETTINGS = "twins"  # in the provenance of a zoo: the settings of every series, in words
CONTROL, VARIATIONAL = "control", "variational"
# What commands of version 0.1 used where they were told nothing, and noted nowhere.
_OF_0_1 = {"magnitude": Adam(lr=1e-3), VARIATIONAL: Adam(lr=3e-4)}
# What series of earlier versions did where they have no such setting among theirs.
_USUAL = Training(epochs=0)
_UNNOTED = {"recalibrate": "recalibrated"} | {
    name: text for name, text in _USUAL.texts().items() if name not in optimizer_texts(_USUAL.optimizer)
}


def magnitude_series(
    zoo: Zoo,
    scope: str = "global",
    matched_to: str | None = None,
    matched_epoch: int | None = None,
    begun: Mapping[str, Texts] | None = None,
    **options: Any,
) -> tuple[Series, Texts]:
    """The series of twins by magnitude, or by another score, and their settings in words.

    Args:
        scope: ``"global"``, ``"layer"``, ``"output"``, or an N:M pattern.
        matched_to: population of twins whose sparsity each is pruned to.
        matched_epoch: the epoch of those twins that gave it; None for the last.
        begun: settings of unfinished series, see :func:`zoosparse_ext.study.unfinished.begun`.
        options: of :func:`zoosparse_ext.magnitude_prune`; loss and augmentation are by default those of the zoo.
    """
    method = chosen_method(options.get("score", "magnitude"))
    config = _of_study(zoo, method.name)
    texts = taken(Pruning, options)[0].texts()
    usual, own = Pruning().texts(), type(method)().texts()
    if isinstance(config, RankingConfig):
        own, pruning = config.ranking().texts(), config.pruning()
        # A study prunes matched twins at once.
        usual = (pruning if matched_to is None else pruning.at_once()).texts()
    selecting = [
        *differences(method.texts(), own),
        *differences({name: text for name, text in texts.items() if name != "schedule"}, usual),
    ]
    if isinstance(method, Ranking) and method.is_random:
        usual_seed = 0 if config is None else config.options(_seed_of_study(zoo))["seed"]
        if (seed := options.get("seed", 0)) != usual_seed:
            selecting.append(f"seed {number_text(seed)}")
    if matched_to is not None and matched_to != VARIATIONAL:
        selecting.append(f"to {Series.parse(matched_to).label}".replace(",", ""))
    if matched_epoch is not None:
        selecting.append(f"epoch {matched_epoch}")
    base = Series(
        method.name,
        scope,
        None if texts["schedule"] == usual["schedule"] else texts["schedule"],
        tuple(selecting),
        matched_to is not None,
    )
    training = _texts(zoo, options)
    there = _trained(zoo, base, config, begun or {}, matched_epoch)
    return _series(base, {**method.texts(), **texts}, training, there)


def learned_series(
    zoo: Zoo,
    method: str | LearnedMethod = VARIATIONAL,
    begun: Mapping[str, Texts] | None = None,
    **options: Any,
) -> tuple[Series, Texts]:
    """The series of twins by a method that learns what to keep, and their settings in words.

    Args:
        begun: settings of unfinished series.
        options: of :func:`zoosparse_ext.learn` and of the method; loss and augmentation are by default those of the
            zoo.
    """
    chosen, options = learned_method(method, options)
    config = _of_study(zoo, chosen.name)
    usual = config.learned() if isinstance(config, LearnedConfig) else type(chosen)()
    texts = chosen.texts()
    scope = "global" if chosen.asks_sparsity else None
    base = Series(chosen.name, scope, options=differences(texts, usual.texts()))
    training = _texts(zoo, options, Training(epochs=EPOCHS, optimizer=chosen.optimizer))
    return _series(base, texts, training, _trained(zoo, base, config, begun or {}))


def learned_method(
    method: str | LearnedMethod, options: Mapping[str, Any]
) -> tuple[LearnedMethod, dict[str, Any]]:
    """A method with those of its own options that are among others, and the others.

    >>> learned_method("variational", {"kl_scale": 2.0, "epochs": 3})[1]
    {'epochs': 3}

    Raises:
        InputError: an unknown method, or one that does not learn.
    """
    cls = method_class(method) if isinstance(method, str) else type(method)
    names = [item.name for item in options_of(cls)]
    chosen = chosen_method(method, **{name: options[name] for name in names if name in options})
    if not isinstance(chosen, LearnedMethod):
        raise InputError(f"{chosen.name!r} ranks weights; expected a method that learns what to keep")
    return chosen, {name: value for name, value in options.items() if name not in names}


def control_series(
    zoo: Zoo, begun: Mapping[str, Texts] | None = None, **options: Any
) -> tuple[Series, Texts]:
    """The series of models that are trained on without being pruned, and their settings in words.

    Args:
        begun: settings of unfinished series.
        options: of :func:`zoosparse_ext.continue_training`; loss and augmentation are by default those of the zoo.
    """
    config = next((found for name in SECTIONS if (found := _of_study(zoo, name)) is not None), None)
    training = _texts(zoo, options)
    base = Series(CONTROL)
    return _series(base, {}, training, _trained(zoo, base, config, begun or {}))


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
    base, _, epoch = name.partition("@")
    if epoch.isdigit() and base in zoo.populations:
        raise InputError(
            f"{name!r} is {base!r} after epoch {epoch}; name both: to={base!r}, epoch={epoch} (--to {base} "
            f"--at-epoch {epoch})"
        )
    return name


def _series(base: Series, selection: Texts, training: Texts, there: Texts | None) -> tuple[Series, Texts]:
    """The base, or a further series if twins of that name were trained in another way."""
    settings = {**selection, **training}
    if there is None:
        return base, settings
    others = [text for text in differences(training, {**_UNNOTED, **there}) if text not in base.options]
    return replace(base, options=(*base.options, *others)), settings


def _trained(
    zoo: Zoo,
    base: Series,
    config: TwinConfig | None,
    begun: Mapping[str, Texts],
    matched_epoch: int | None = None,
) -> Texts | None:
    """How the twins of a name were trained, in a study will be, or were begun to be; None if there are none.

    Args:
        config: of the study, if one made the zoo.
        matched_epoch: which is how many epochs a study trains twins that are matched to it.
    """
    recorded = zoo.provenance.get(SETTINGS, {}).get(base.key)
    if recorded is not None:
        return dict(recorded)
    if config is not None:
        epochs = config.epochs if matched_epoch is None else matched_epoch
        return _training_of(zoo, config, epochs)
    if base.key in zoo.populations:  # made by a command of an earlier version, at defaults as far as is known
        ids = {id for group in zoo.groups(base.key) for id in group.ids}
        last = zoo.twins.loc[zoo.twins["twin_id"].isin(ids), "epoch"].max()
        method = VARIATIONAL if base.method == VARIATIONAL else "magnitude"
        epochs = int(last) if last == last else TwinConfig().epochs
        return _training_of(zoo, TwinConfig(), epochs, _OF_0_1[method])
    return begun.get(base.key)


def _training_of(zoo: Zoo, config: TwinConfig, epochs: int, optimizer: Optimizer | None = None) -> Texts:
    """How a study trains the twins of a section."""
    options = {**config.options(_seed_of_study(zoo)), "epochs": epochs}
    return _texts(zoo, options if optimizer is None else {**options, "optimizer": optimizer})


def _seed_of_study(zoo: Zoo) -> int:
    seed: int = zoo.provenance.get("settings", {}).get("seed", 0)
    return seed


def _texts(zoo: Zoo, options: Mapping[str, Any], usual: Training = _USUAL) -> Texts:
    """How twins of a zoo are going to be trained: as is usual, with these options, and otherwise as its models."""
    given = {name: options[name] for name in TRAINING if name in options}
    source = given.get("optimizer", _USUAL.optimizer)
    if source is None or isinstance(source, SourceOptimizer):
        del given["optimizer"]
    training = usual.but(**{**inherited(zoo), **given})
    texts = training.texts()
    if isinstance(source, SourceOptimizer):
        others = {
            name: text for name, text in texts.items() if name not in optimizer_texts(training.optimizer)
        }
        texts = {"epochs": texts["epochs"], **source.texts(zoo.models), **others}
    return {
        **texts,
        "recalibrate": "recalibrated" if options.get("recalibrate", True) else "not recalibrated",
    }


def _of_study(zoo: Zoo, section: str) -> TwinConfig | None:
    """A section of the config of the study that made a zoo, if one did."""
    settings = zoo.provenance.get("settings")
    if not isinstance(settings, dict) or not isinstance(settings.get(section), dict):
        return None
    found = getattr(stored_config(settings), section)
    return found if isinstance(found, TwinConfig) else None
