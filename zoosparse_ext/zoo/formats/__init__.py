"""Zoos in the forms in which others write and read them."""

from __future__ import annotations

from zoosparse_ext.zoo.formats.exporting import EXPORTERS, export_zoo
from zoosparse_ext.zoo.formats.hub import Pushed, push_zoo
from zoosparse_ext.zoo.formats.importing import FORMATS, import_zoo

__all__ = ["EXPORTERS", "FORMATS", "Pushed", "export_zoo", "import_zoo", "push_zoo"]
