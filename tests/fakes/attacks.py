"""What is thrown at every entry point: names that leave a folder or fool a reader, and URLs that lead inside."""

from __future__ import annotations

BAD_NAMES = {
    "traversal": "../out.gguf",
    "deep traversal": "../../../../etc/cron.d/x.gguf",
    "hidden traversal": "a/../../out.gguf",
    "absolute": "/etc/out.gguf",
    "parent": "..",
    "here": ".",
    "empty": "",
    "empty part": "a//b.gguf",
    "backslash": "..\\out.gguf",
    "drive": "C:out.gguf",
    "stream": "out.gguf:x",
    "NUL": "a\0b.gguf",
    "newline": "a\nb.gguf",
    "escape": "a\x1b[2J.gguf",
    "C1 escape": "a\x9b2J.gguf",
    "right to left": "a\u202efugg.gguf",
    "no width": "a\u200b.gguf",
    "device": "con",
    "device with ending": "nul.gguf",
    "device in capitals": "COM1.q4.gguf",
    "too long": "x" * 300 + ".gguf",
    "trailing dot": "out.gguf.",
    "trailing space": "out.gguf ",
}

# Hosts of links; the names are those of `internet_of_liars`.
INSIDE_HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "0.0.0.0", "0", "[::]", "localhost", "LOCALHOST", "localhost.",
    "inside.example", "both.example", "mapped.example", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "[fd00::1]", "[fe80::1]", "224.0.0.1", "255.255.255.255", "metadata.example",
]  # fmt: skip
LIARS = {
    "inside.example": ["127.0.0.1"],
    "both.example": ["93.184.215.14", "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
}


def bad_links(port: int) -> list[str]:
    """URLs that no link and no redirect may lead to; `port` is that of a canary on 127.0.0.1."""
    inside = [f"{scheme}://{host}:{port}/x.torrent" for host in INSIDE_HOSTS for scheme in ("http", "https")]
    return [*inside, *odd_links(port)]


def odd_links(port: int) -> list[str]:
    """Those of a form that not even a user may type."""
    return [
        f"http://user:pw@127.0.0.1:{port}/x",
        f"http://public.example@127.0.0.1:{port}/x",
        f"http://127.0.0.1:{port}\\@public.example/x",
        f"http://public.example\\@127.0.0.1:{port}/x",
        f"http://user@public.example:{port}/x",
        f"http://127.0.0.1:{port}\t/x",
        f"http://[::1%25lo]:{port}/x",
        "http://public.example:22/x",
        "http://public.example:25/x",
        "http://public.example:99999/x",
        "http://hugg\u0131ngface.co/x",  # a dotless i
        f"http://\uff11\uff12\uff17.0.0.1:{port}/x",  # full-width digits
        f"http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/x",  # circled letters: localhost
        "file:///etc/passwd",
        f"ftp://127.0.0.1:{port}/x",
        f"gopher://127.0.0.1:{port}/x",
        "javascript:alert(1)",
        "http:///x",
        "http://",
        "x" * 9000,
    ]
