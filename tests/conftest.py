"""Measured differences: kept with each test, and printed at the end of a run, each group's largest beside its limit."""

import math

import pytest

_KEY = "difference"


def pytest_report_header():
    from fusemin._build import HAS_CUDA_KERNELS

    if not HAS_CUDA_KERNELS:
        return "fusemin: built without CUDA kernels, so tests/cuda and tests/gpu are left out"
    return []


@pytest.fixture
def record_difference(record_property):
    """`record_difference(group, measured, limit, where, stock=None)`; `stock` is how far stock is from the
    reference."""

    def record(group, measured, limit, where, stock=None):
        value = {"group": group, "measured": float(measured), "limit": limit, "where": where, "stock": stock}
        record_property(_KEY, value)

    return record


@pytest.fixture
def check_difference(record_difference):
    """`check_difference(group, what, measured, limit)` asserts `measured <= limit` and records both."""

    def check(group, what, measured, limit):
        record_difference(group, measured, limit, what)
        assert measured <= limit, f"{group}: {what} differs by {measured:.3g}, the limit is {limit:.3g}"

    return check


def _size(value):
    """NaN is larger than all numbers."""
    return math.inf if math.isnan(value["measured"]) else value["measured"]


def pytest_terminal_summary(terminalreporter):
    worst = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, value in report.user_properties:
            if key == _KEY and _size(value) >= _size(worst.get(value["group"], value)):
                worst[value["group"]] = value
    if not worst:
        return
    terminalreporter.section("measured largest difference / limit")
    width = max(map(len, worst))
    for group, value in sorted(worst.items()):
        stock = "" if value["stock"] is None else f", stock {value['stock']:.2g}"
        at = f"  at {value['where']}" if value["measured"] else ""
        terminalreporter.write_line(f"{group:{width}}  {value['measured']:.2g} / {value['limit']:.3g}{stock}{at}")
