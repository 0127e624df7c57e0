"""Serving on a socket that the parent process has already bound, so that its port is known before the server is up."""

from __future__ import annotations

import os
import socket

import uvicorn
from starlette.applications import Starlette


def inherited() -> socket.socket:
    """The listening socket whose number the parent left in ``LISTEN_FD``."""
    return socket.socket(fileno=int(os.environ["LISTEN_FD"]))


def serve(web: Starlette) -> None:
    """Answer HTTP until SIGTERM."""
    config = uvicorn.Config(
        web, log_level="warning", access_log=False, timeout_graceful_shutdown=1, timeout_keep_alive=600
    )
    uvicorn.Server(config).run(sockets=[inherited()])
