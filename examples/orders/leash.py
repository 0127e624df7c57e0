"""Ends every process of the demo when the demo itself is gone, however it went.

This process leads the process group that all of them are in, and reads from a pipe whose other end the demo holds. The kernel closes that
end when the demo is killed, too.
"""

from __future__ import annotations

import os
import signal
import sys
import time


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    time.sleep(3)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
