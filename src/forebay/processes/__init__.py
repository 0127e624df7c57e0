"""Processes beside this one: pools, supervisors, their health."""
