"""The report: one model, `report.json`; Markdown and HTML are rendered from it and add no figure."""
