"""How far attention flow can be trusted: data sets with marked evidence, methods side by side, metrics, reports."""
