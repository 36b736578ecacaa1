"""The report: all results in one HTML file, for people who do not program."""
