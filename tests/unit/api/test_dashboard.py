"""The dashboard over HTTP: who gets the page, its files, tickets, buttons."""

from __future__ import annotations

import dataclasses

import httpx
import pytest
from starlette.requests import Request

from hali.api import ApiKey
from hali.api.dashboard_assets import FOLDER, POLICY, TYPES, asset, wants_page
from hali.api.dashboard_base import Seats
from hali.api.dashboard_tickets import OUTSTANDING, VALID_S, Tickets
from hali.model.errors import NotFound, Overloaded, Refused
from tests.fakes.attacks import BAD_NAMES

JSON = {"content-type": "application/json"}
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


# ---- the page and its files


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML;level=1", True),
        ("application/json;q=0.5, text/html", True),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
    ],
)
def test_a_browser_gets_the_page_and_a_program_the_index(accept: str, page: bool) -> None:
    assert wants_page([(b"accept", accept.encode())]) is page


async def test_the_root_is_a_page_or_json_by_what_is_accepted(client: httpx.AsyncClient) -> None:
    html = await client.get("/", headers={"accept": BROWSER})
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert html.content == (FOLDER / "index.html").read_bytes()
    index = await client.get("/")
    assert index.json()["name"] == "hali" and "GET /health" in index.json()["endpoints"]
    assert html.headers["vary"] == index.headers["vary"] == "Accept"


async def test_the_page_may_load_nothing_but_its_own_files(client: httpx.AsyncClient) -> None:
    for path in ("/", "/assets/index.html"):
        page = await client.get(path, headers={"accept": BROWSER})
        assert page.headers["content-security-policy"] == POLICY
        assert "unsafe" not in POLICY and "*" not in POLICY
        assert page.headers["x-content-type-options"] == "nosniff"


async def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/assets/index.html")
    again = await client.get("/assets/index.html", headers={"if-none-match": first.headers["etag"]})
    other = await client.get("/assets/index.html", headers={"if-none-match": '"other"'})
    assert (first.status_code, again.status_code, other.status_code) == (200, 304, 200)
    assert again.content == b"" and again.headers["etag"] == first.headers["etag"]


async def test_every_file_of_the_folder_is_served_by_its_type(client: httpx.AsyncClient) -> None:
    for path in FOLDER.iterdir():
        found = await client.get(f"/assets/{path.name}")
        assert found.headers["content-type"] == TYPES[path.suffix], path.name
        assert found.content == path.read_bytes()


@pytest.mark.parametrize("name", [*BAD_NAMES.values(), "../assets/index.html", "index.html/", "INDEX.HTML"])
async def test_a_name_of_an_asset_is_compared_and_never_opened(name: str) -> None:
    with pytest.raises(NotFound):
        await asset(Request({"type": "http", "path_params": {"name": name}, "headers": []}))


async def test_page_and_files_need_no_key_and_everything_else_does(deps, client_of) -> None:
    keys = (ApiKey("ann", "sk-ann"),)
    client = client_of(dataclasses.replace(deps, require_key=True, keys=keys))
    assert (await client.get("/", headers={"accept": BROWSER})).status_code == 200
    assert (await client.get("/assets/index.html")).status_code == 200
    assert (await client.get("/")).status_code == 401
    for path in ("/dashboard/ticket", "/dashboard/call/pause"):
        assert (await client.post(path, json={})).status_code == 401
        known = await client.post(path, json={}, headers={"authorization": "Bearer sk-ann"})
        assert known.status_code == 200


@pytest.mark.parametrize("path", ["/dashboard/ticket", "/dashboard/call/pause"])
async def test_a_key_that_may_not_do_everything_opens_no_dashboard(deps, client_of, path: str) -> None:
    keys = (ApiKey("bob", "sk-bob", scopes=frozenset({"inference", "models", "manage"})),)
    client = client_of(dataclasses.replace(deps, require_key=True, keys=keys))
    refused = await client.post(path, json={}, headers={"authorization": "Bearer sk-bob"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    enough = "--scope inference --scope models --scope manage --scope metrics"  # with what bob's lacked alone it would be refused again
    assert refused.json()["error"]["hint"] == f"`hali keys create NAME {enough}` makes one that may"


# ---- buttons


async def test_a_button_is_called_with_its_parameters(deps, client: httpx.AsyncClient) -> None:
    done = await client.post("/dashboard/call/pause", json={"seconds": 5})
    assert done.json() == {"called": "pause"}
    assert deps.dashboard.called == [("pause", {"seconds": 5})]


@pytest.mark.parametrize("body", ["[]", "1", "{", '"pause"'])
async def test_the_parameters_are_an_object(deps, client: httpx.AsyncClient, body: str) -> None:
    refused = await client.post("/dashboard/call/pause", content=body, headers=JSON)
    assert refused.status_code == 400 and deps.dashboard.called == []


async def test_a_cross_site_form_calls_nothing(deps, client: httpx.AsyncClient) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for path in ("/dashboard/call/rm", "/dashboard/ticket"):
        assert (await client.post(path, content="model=x", headers=form)).status_code == 415
    assert deps.dashboard.called == []


async def test_a_server_without_a_daemon_says_so(deps, client_of) -> None:
    client = client_of(dataclasses.replace(deps, dashboard=None))
    told = (await client.post("/dashboard/ticket", headers=JSON)).json()
    assert told["error"]["code"] == "no_dashboard"


# ---- tickets and seats


class Clock:
    """Seconds that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_ticket_is_good_once_and_names_who_asked() -> None:
    tickets, ann = Tickets(), ApiKey("ann", "sk-ann")
    secret = tickets.give(ann)
    assert tickets.take(secret) is ann
    with pytest.raises(Refused):
        tickets.take(secret)


def test_a_ticket_is_good_for_its_time_only() -> None:
    clock = Clock()
    tickets = Tickets(clock=clock)
    early, late = tickets.give(None), tickets.give(None)
    clock.now += VALID_S - 1
    assert tickets.take(early) is None
    clock.now += 1
    with pytest.raises(Refused):
        tickets.take(late)


def test_no_more_tickets_are_out_than_may_be_and_time_makes_room() -> None:
    clock = Clock()
    tickets = Tickets(clock=clock)
    given = {tickets.give(None) for _ in range(OUTSTANDING)}
    assert len(given) == OUTSTANDING
    with pytest.raises(Overloaded):
        tickets.give(None)
    clock.now += VALID_S
    tickets.give(None)


def test_a_seat_is_free_again_when_its_holder_has_left() -> None:
    seats = Seats(1)
    with seats.take(), pytest.raises(Overloaded), seats.take():
        pass
    with seats.take():
        assert seats.taken == 1
    assert seats.taken == 0
