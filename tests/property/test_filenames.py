"""No name that passes leaves its folder, and no redirect leaves the web, whatever strangers write."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from hali.model.errors import Refused
from hali.model.filenames import MAX_NAME, is_safe_path, unsafe
from hali.transfer.http_guard import Reach, next_hop, reach
from tests.fakes.attacks import BAD_NAMES, odd_links

PARTS = ["..", ".", "", "/", "\\", "con", ".gguf", " ", ":", "\0", "\u202e", "\x1b[2J", "a", *BAD_NAMES.values()]
NAMES = st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
FOLDER = Path("/srv/models/incoming")


@given(NAMES)
def test_a_name_that_passes_is_one_file_of_its_folder_and_can_be_shown(name: str) -> None:
    if unsafe(name) is None:
        assert (FOLDER / name).parent == FOLDER and Path(name).name == name
        assert name.isprintable() and len(name.encode()) <= MAX_NAME
        assert name[-1] not in " ."  # Windows drops these


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join))
def test_a_path_that_passes_stays_below_its_folder(path: str) -> None:
    if is_safe_path(path):
        joined = FOLDER / path
        assert joined.is_relative_to(FOLDER) and ".." not in joined.parts
        assert len(joined.parts) == len(FOLDER.parts) + path.count("/") + 1


@given(
    st.one_of(
        st.text(), st.sampled_from(odd_links(8080)), st.builds("{}://{}:{}/{}".format, *[st.text(max_size=12)] * 4)
    )
)
def test_a_redirect_stays_on_the_web_and_never_goes_back_to_plain_http(location: str) -> None:
    try:
        target = urlsplit(next_hop("https://hub.example/a/b", location))
    except Refused:
        return
    assert target.scheme == "https" and target.hostname and "@" not in target.netloc
    assert target.port in (None, 443) or target.port >= 1024


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_lies_where_it_lies_itself(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    assert reach(f"::ffff:{address}") is reach(str(address))
    assert reach(str(ipaddress.IPv6Address((0x64FF9B << 96) | number))) is reach(str(address))
    assert reach(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))) is reach(str(address))
    assert (reach(str(address)) is Reach.PUBLIC) <= address.is_global
