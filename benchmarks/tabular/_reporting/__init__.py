"""The report of the league: tables, bars and figures."""
