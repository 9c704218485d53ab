"""Charts of a report, drawn with Altair; nothing of what they are about."""
