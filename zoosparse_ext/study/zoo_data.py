"""The data set of a zoo, loaded again."""

from __future__ import annotations

from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.zoo import Zoo


def data_of_zoo(zoo: Zoo, spec: str | None = None, option: str = "--data") -> Dataset:
    """The data a zoo was trained on, loaded again.

    Args:
        spec: where they lie; default: as the zoo says.
        option: what says so, for errors.

    Raises:
        InputError: the zoo names no data and none were given; the data are not those that the zoo was trained on.
    """
    known = zoo.dataset or {}
    if spec is None and not known.get("spec"):
        raise InputError(f"this zoo does not say what it was trained on; pass {option}")
    data = load_dataset(spec or known["spec"], mean=known.get("mean"), std=known.get("std"))
    if known.get("limit"):
        data = data.limit(known["limit"])
    require_data_of(zoo, data, repr(spec or known["spec"]), option)
    return data


def require_data_of(zoo: Zoo, data: Dataset, name: str, option: str) -> None:
    """Raise InputError unless data are those that a zoo was trained on, as far as it says."""
    if (zoo.dataset or {}).get("fingerprint") not in (None, data.fingerprint):
        raise InputError(
            f"the data {name} are not those the zoo was trained on (other images, labels or split); pass {option} with "
            "the right place"
        )
