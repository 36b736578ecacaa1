"""The report: what the instruments find, told in one file for people who do not program."""
