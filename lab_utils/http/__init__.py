"""The embedded world over HTTP, for whatever speaks AWS: `python -m lab_utils serve`.

One thread does everything: asyncio's loop reads requests and writes answers, and in between the
world moves. A request is carried out at the moment at which it has arrived, and answered at once
unless it is one that waits; its way through the network is all the latency it has. Calls of
functions take the time that they take in the lab, at the server's speed.

A function that computes holds up everybody; one that asks the server itself by other means than
boto3 waits for an answer that nobody can give.
"""
