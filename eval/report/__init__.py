"""The report of runs: numbers only, no text of any data set, so that it may be shown and committed."""
