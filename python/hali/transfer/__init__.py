"""L3: how bytes travel: BitTorrent (libtorrent), ranged HTTP, and who on the LAN has what."""
