"""The embedded world over HTTP, for whatever speaks AWS: `python -m lab_utils serve`.

One thread does everything: asyncio's loop reads requests and writes answers, and in between the
world moves. A request is carried out at the moment at which it has arrived, and answered at once
unless it is one that waits; its way through the network is all the latency it has.
"""
