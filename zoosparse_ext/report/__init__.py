"""The report: figures, tables and one self-contained HTML page.

>>> import tempfile
>>> import pandas as pd
>>> from zoosparse_ext.analysis import StudyData
>>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
>>> with tempfile.TemporaryDirectory() as folder:
...     page = write_report(StudyData(models, pd.DataFrame()), folder, title="An empty study")
...     "This zoo has no twins yet" in page.read_text()
True
"""

from __future__ import annotations

from zoosparse_ext.report.claims import readable_claims
from zoosparse_ext.report.page import write_report
from zoosparse_ext.report.questions import QUESTIONS, Question, Table, analyzed
from zoosparse_ext.report.stored import source_of, store_tables

__all__ = [
    "QUESTIONS",
    "Question",
    "Table",
    "analyzed",
    "readable_claims",
    "source_of",
    "store_tables",
    "write_report",
]
