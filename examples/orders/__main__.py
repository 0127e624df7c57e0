"""`python -m examples.orders`: the demo's command line."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

NEEDED = ("aiosmtpd", "httpx", "starlette", "uvicorn")


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    if given.orders < 20 or given.seconds < 2:
        parser.error("give it at least --orders 20 and --seconds 2: less is no burst.")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(
            f"The demo needs {', '.join(missing)}: run `make demo`, which installs it, or `pip install 'forebay[demo]'`."
        )
    from examples.orders.run import Options, run

    sys.exit(
        run(
            Options(
                orders=given.orders,
                seconds=given.seconds,
                seed=given.seed,
                keep=given.keep,
                plain=given.plain,
            )
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.orders",
        description="An order service on SQLite: a steady stream, a burst, a killed worker, and the books at the end.",
    )
    parser.add_argument(
        "--orders",
        type=int,
        default=2_400,
        metavar="N",
        help="how many come in all, five in eight of them in the burst (2400)",
    )
    parser.add_argument(
        "--seconds", type=float, default=30, metavar="S", help="over how many seconds they come (30)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="what is ordered, what fails and what stalls depend on it (1)",
    )
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C, and keep the files")
    parser.add_argument("--plain", action="store_true", help="plain lines, no live picture")
    return parser


if __name__ == "__main__":
    main()
