"""libtorrent as somebody else's program would use it: defaults, no hali. Run as a process of its own.

python -m tests.fakes.bare_libtorrent seed FOLDER TORRENT [--no-lsd|--stock-port]   prints its port once it seeds, until killed
python -m tests.fakes.bare_libtorrent fetch FOLDER MAGNET [--no-lsd|--stock-port]   ends when the download is complete
"""

from __future__ import annotations

import sys
from pathlib import Path

import libtorrent as lt

# Where it listens. On several interfaces libtorrent picks a free port for each, but announces one of them on all: a host
# with more than the loopback needs the stock port.
INTERFACES = {"--no-lsd": "127.0.0.1:0", "": "0.0.0.0:0", "--stock-port": "0.0.0.0:6881,[::]:6881"}


def session(option: str) -> lt.session:
    """Stock settings, but for what would leave this machine."""
    return lt.session(
        {
            "listen_interfaces": INTERFACES[option],
            "enable_lsd": option != "--no-lsd",
            "enable_dht": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert_category.status | lt.alert_category.error,
        }
    )


def seed(folder: str, torrent: str, option: str) -> None:
    """Seed the file of `torrent` in `folder`."""
    client = session(option)
    params = lt.load_torrent_buffer(Path(torrent).read_bytes())
    params.save_path = folder
    handle = client.add_torrent(params)
    while not handle.status().is_seeding:  # it has to look at its file first
        client.wait_for_alert(50)
        client.pop_alerts()
    print(client.listen_port(), flush=True)
    sys.stdin.read()  # until whoever started us is gone


def fetch(folder: str, magnet: str, option: str) -> None:
    """Download what `magnet` names, with nothing else to go by."""
    client = session(option)
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
    {"seed": seed, "fetch": fetch}[verb](where, what, *(options or [""]))
