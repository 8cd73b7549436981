"""A BitTorrent client that knows nothing of hali: libtorrent alone. As a program it fetches a magnet; in a test it seeds.

`python plain_client.py MAGNET FOLDER [HOST:PORT]`: exit 0 when all is there and right, 1 after 60 s
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libtorrent as lt

GIVE_UP_S = 60.0
LOCAL = {
    "enable_dht": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "allow_multiple_connections_per_ip": True,
    # Peers are dialled by uTP first, and hali speaks TCP only: libtorrent's fallback would take 5 s of every test.
    "enable_outgoing_utp": False,
    "min_reconnect_time": 1,  # who is dialled before it knows the torrent is dialled again soon
}


class PlainSeeder:
    """Seeds one torrent on a loopback address and knows which blocks it served."""

    def __init__(
        self, torrent: bytes, folder: Path, *, rate: int = 0, lsd: bool = False, address: str = "127.0.0.1"
    ) -> None:
        self._address = address
        self._session = lt.session(
            {
                **LOCAL,
                # LSD announces on the interfaces that listen; a magnet with a peer in it needs the loopback only.
                "listen_interfaces": "0.0.0.0:0" if lsd else f"{address}:0",
                "outgoing_interfaces": "" if lsd else address,
                "enable_lsd": lsd,
                "upload_rate_limit": rate,
                "ignore_limits_on_local_network": False,
                "alert_mask": lt.alert_category.upload | lt.alert_category.status,
                "alert_queue_size": 1_000_000,
            }
        )
        params = lt.load_torrent_buffer(torrent)
        params.save_path = str(folder)
        params.flags = lt.torrent_flags.seed_mode
        self._handle = self._session.add_torrent(params)
        self._served: list[tuple[int, int]] = []

    @property
    def peer(self) -> str:
        """As a magnet's `x.pe` has it."""
        return f"{self._address}:{self._session.listen_port()}"

    def dial(self, host: str, port: int) -> None:
        """Connect to a peer, as after hearing of it by LSD or PEX."""
        self._handle.connect_peer((host, port))

    def meets(self, host: str, port: int) -> bool:
        """Dial a peer; True once somebody is connected. For `until`: the peer may not know the torrent yet."""
        if self.is_alone():
            self.dial(host, port)
        return not self.is_alone()

    def leave(self) -> None:
        """Be gone for everybody, until `come_back`."""
        self._session.pause()

    def come_back(self) -> None:
        """Serve at the same port again."""
        self._session.resume()

    def served(self) -> list[tuple[int, int]]:
        """(piece, block) of everything sent since the last call."""
        alerts = self._session.pop_alerts()
        return [(a.piece_index, a.block_index) for a in alerts if isinstance(a, lt.block_uploaded_alert)]

    def is_alone(self) -> bool:
        """True when no peer is connected any more."""
        return bool(self._handle.status().num_peers == 0)

    def limit(self, rate: int) -> None:
        """Bytes a second from now on; 0 = no limit."""
        self._session.apply_settings({"upload_rate_limit": rate})


@contextmanager
def seeder(
    torrent: bytes, folder: Path, *, rate: int = 0, lsd: bool = False, address: str = "127.0.0.1"
) -> Iterator[PlainSeeder]:
    """A seeder for the length of a block."""
    made = PlainSeeder(torrent, folder, rate=rate, lsd=lsd, address=address)
    try:
        yield made
    finally:
        del made._handle, made._session  # libtorrent ends with its last reference


def fetch(magnet: str, folder: str, peer: str | None) -> bool:
    """Download `magnet` into `folder`, from `peer` or from whoever LSD finds."""
    session = lt.session({**LOCAL, "listen_interfaces": "0.0.0.0:0", "enable_lsd": peer is None})
    params = lt.parse_magnet_uri(magnet)
    params.save_path = folder
    handle = session.add_torrent(params)
    if peer is not None:
        host, _, port = peer.rpartition(":")
        handle.connect_peer((host, int(port)))
    deadline = time.monotonic() + GIVE_UP_S
    while not handle.status().is_seeding:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    sys.exit(0 if fetch(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None) else 1)
