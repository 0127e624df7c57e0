"""What tests of services and engines stand on: a clock turned by hand, probes, a hostile bus, conformance claims, a history checker.

Public: authors of engines run `forebay.testing.conformance` against theirs. Nothing in production imports from here.
"""
