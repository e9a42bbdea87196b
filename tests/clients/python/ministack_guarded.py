"""ministack on a free port of 127.0.0.1, for as long as standard input stays open.

The first line of standard output is the port. It is bound before ministack is loaded and handed
over open, so that nobody else can take it in between. Whoever started this holds the other end of
standard input: when that process ends, however it ends, so does this one.
"""

import asyncio
import os
import socket
import sys
import threading

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.bind(("127.0.0.1", 0))
port = listener.getsockname()[1]


def end_with_the_starter():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


threading.Thread(target=end_with_the_starter, daemon=True).start()
os.environ.update(
    GATEWAY_PORT=str(port),
    BIND_HOST="127.0.0.1",
    SERVICES="kms,sts,iam,tagging",
    SFTP_ENABLED="0",
    IOT_MTLS_ENABLED="0",
    LOG_LEVEL="ERROR",
)

from hypercorn.asyncio import serve  # noqa: E402
from hypercorn.config import Config  # noqa: E402
from ministack.app import app  # noqa: E402

config = Config()
config.bind = [f"fd://{listener.fileno()}"]
config.keep_alive_timeout = 75
config.loglevel = "ERROR"
listener.listen(1024)  # So that nobody is refused before the event loop runs.
print(port, flush=True)
asyncio.run(serve(app, config))
