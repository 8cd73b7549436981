"""L2: sans-I/O codecs. Bytes in, frozen values out; no sockets, no clocks, no asyncio."""
