"""Stands in for a native library that misbehaves: run by `Zygote` in test_zygote.py."""

from __future__ import annotations

import os
import sys
import time

from services.speech.tasks.zygote import Head, serve

answered = 0


def answer(ask: Head, body: bytes) -> tuple[Head, bytes]:
    global answered
    answered += 1
    if ask["do"] == "abort":
        os.abort()
    if ask["do"] == "hang":
        time.sleep(3600)
    if ask["do"] == "spin":
        while True:
            pass
    if ask["do"] == "fail":
        raise ValueError("no")
    pids = {"pid": os.getpid(), "zygote": os.getppid()}
    return {"answered": answered, "argument": sys.argv[2], **pids}, body[::-1]


if __name__ == "__main__":
    serve(answer, most_cpu_s=1)
