"""libtorrent as somebody else's program would use it: defaults, no hali. Run as a process of its own.

python -m tests.fakes.bare_libtorrent seed FOLDER TORRENT [--no-lsd]       prints its port, then seeds until killed
python -m tests.fakes.bare_libtorrent fetch FOLDER MAGNET [--no-lsd]       ends when the download is complete
"""

from __future__ import annotations

import sys
from pathlib import Path

import libtorrent as lt


def session(*, lsd: bool) -> lt.session:
    """Stock settings, but for what would leave this machine."""
    return lt.session(
        {
            "listen_interfaces": "0.0.0.0:0" if lsd else "127.0.0.1:0",
            "enable_lsd": lsd,
            "enable_dht": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert_category.status | lt.alert_category.error,
        }
    )


def seed(folder: str, torrent: str, *, lsd: bool) -> None:
    """Seed the file of `torrent` in `folder`."""
    client = session(lsd=lsd)
    params = lt.load_torrent_buffer(Path(torrent).read_bytes())
    params.save_path = folder
    client.add_torrent(params)
    print(client.listen_port(), flush=True)
    sys.stdin.read()  # until whoever started us is gone


def fetch(folder: str, magnet: str, *, lsd: bool) -> None:
    """Download what `magnet` names, with nothing else to go by."""
    client = session(lsd=lsd)
    params = lt.parse_magnet_uri(magnet)
    params.save_path = folder
    client.add_torrent(params)
    while True:
        client.wait_for_alert(10_000)
        for alert in client.pop_alerts():
            if isinstance(alert, lt.torrent_finished_alert):
                return


if __name__ == "__main__":
    _, verb, where, what, *options = sys.argv
    {"seed": seed, "fetch": fetch}[verb](where, what, lsd="--no-lsd" not in options)
