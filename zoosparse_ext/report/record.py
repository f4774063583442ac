"""The report for programs: what the page says, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from zoosparse_ext.report.opening import Opening
from zoosparse_ext.report.questions.question import Section


def as_record(title: str, first: Opening, sections: Sequence[Section]) -> str:
    """Answers, claims, and the names of the figures and tables, which are files in `figures/` and `tables/`.

    Numbers that are not finite are null.
    """
    record = {
        "title": title,
        "answer": [first.headline, *first.sentences],
        "conditions": first.conditions,
        "claims": json.loads(first.claims.to_json(orient="records", double_precision=15)),
        "questions": [
            {
                "id": section.id,
                "title": section.title,
                "question": section.question,
                "answer": section.answer,
                "figures": [picture.name for picture in section.figures],
                "tables": [table.name for table in section.tables],
            }
            for section in sections
        ],
    }
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"
