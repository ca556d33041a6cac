"""Evaluate attribution methods: data sets with known evidence, runs, metrics and reports."""
