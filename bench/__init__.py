"""Measures Forebay beside the raw driver, in one run on one machine. Never part of the tests: a slow machine is no defect."""
