"""
The local API: HTTP/1.1 on Unix sockets for workloads, and on a TCP address for probes and scrapers.

``server`` and ``ops`` are what the daemon runs; ``service`` and ``protocol`` speak HTTP, through aiohttp;
``desk`` and what stands behind it know no HTTP library. Nothing that came in a request goes into an answer,
a log line or a record.
"""
