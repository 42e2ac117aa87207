"""`python -m scripts.results`: write the published schema of report.json anew, from the definition."""

from __future__ import annotations

from scripts.common import json_files
from scripts.results import report

if __name__ == "__main__":
    json_files.write(report.SCHEMA, report.schema())
    print(report.SCHEMA)
