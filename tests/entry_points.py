"""Where names, paths and URLs come in, found in the code, and the table of who guards each (`test_entry_points.py` compares)."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import hali
from hali.api import ApiDeps, build_app
from hali.cli import apps
from hali.cli.main import COMMANDS

SOURCE = Path(hali.__file__).parent


class Row(NamedTuple):
    """`guard`: the function that decides what may pass, or "ours: why nobody else writes it". `attack`: the test that throws
    what is bad at it, as `file::name`."""

    guard: str
    attack: str = ""


ENTRY = "tests/unit/test_entry_points.py"
HOSTILE = "tests/integration/test_http_hostile.py"
PULL = "tests/integration/test_pull_nasty_hub.py"
GATE = "tests/unit/api/test_gate.py"
HUB = "tests/integration/test_hub.py"
REGISTRY = "tests/unit/registry"

_LOOKED_UP = Row("hali.store.models.the_one", f"{ENTRY}::test_names_of_models_are_compared_and_never_opened")
_WHAT = Row("hali.share.targets.parse_target", f"{ENTRY}::test_what_is_pulled_is_no_path_out_and_no_url_inside")
_QUANT = Row("hali.transfer.hub_choice.choose_model", f"{ENTRY}::test_a_quant_is_compared_and_never_opened")
_LAYERS = Row(
    "hali.model.layers.parse_layers",
    "tests/property/test_layer_ranges.py::test_what_is_no_range_of_layers_is_refused",
)
_ADDED = Row("hali.model.filenames.safe_name", f"{ENTRY}::test_a_file_of_a_bad_name_is_not_imported")
_SERVED = Row("hali.daemon.catalog.LibraryCatalog", f"{ENTRY}::test_names_in_http_paths_are_compared_and_never_opened")
_RESPONSE = Row(
    "hali.api.response_store.ResponseStore", "tests/unit/api/test_response_store.py::test_nobody_else_finds_a_response"
)
_OPERATOR = Row("ours: the operator's own file, read or written with the operator's own rights")
_NO_NAME = Row("ours: takes no name, path or URL")
_WORDS = Row("ours: words for the hub, which get there as the value of a parameter")
_LINK = Row("hali.transfer.http_guard.check_link", f"{HOSTILE}::test_no_link_leads_into_this_machine_or_network")
_DIALLED = Row(
    "hali.transfer.http_dial.Dialer", f"{HOSTILE}::test_no_redirect_of_a_public_hub_leads_into_this_machine_or_network"
)
_STORE = Row("hali.store.models.ModelStore", f"{ENTRY}::test_a_symbolic_link_leads_nothing_out_of_the_store")
_PART = Row(
    "hali.store.models.ModelStore",
    "tests/unit/store/test_partials.py::test_a_symbolic_link_leads_no_part_out_of_the_store",
)

_KEY = Row("hali.daemon.keys.KeyMethods", "tests/unit/daemon/test_keys.py::test_what_cannot_be_is_refused")
_SCOPE = Row("ours: compared with the scopes there are")
_OFFERED = Row(
    "hali.daemon.offering.OfferedModels",
    "tests/unit/daemon/test_offering.py::test_nothing_of_this_machine_and_no_address_can_be_pulled_over_http",
)

_JOB = Row("ours: compared with the jobs under way")
_PROFILE = Row(
    "hali.registry.documents.Profile", f"{REGISTRY}/test_registry_app.py::test_profiles_are_replaced_by_newer_ones_only"
)
_SIGNED = Row(
    "hali.registry.signing.unseal", f"{REGISTRY}/test_registry_app.py::test_every_field_of_a_manifest_is_bounded"
)
_LISTED = Row("hali.registry.listing.candidate_of", f"{REGISTRY}/test_finder.py::test_rows_that_cannot_be_are_left_out")
_FOLDER = Row("hali.registry.folder.check_files", f"{REGISTRY}/test_folder.py::test_what_was_changed_is_refused")

TABLE: dict[str, Row] = {
    # ---- the command line
    "cli hali pull WHAT": _WHAT,
    "cli hali pull --quant": _QUANT,
    "cli hali pull --layers": _LAYERS,
    "cli hali add FILE": _ADDED,
    "cli hali add --with-mmproj": _ADDED,
    "cli hali hash FILE": _OPERATOR,
    "cli hali info MODEL": _LOOKED_UP,
    "cli hali verify MODEL": _LOOKED_UP,
    "cli hali rm MODEL…": _LOOKED_UP,
    "cli hali pin MODEL": _LOOKED_UP,
    "cli hali unpin MODEL": _LOOKED_UP,
    "cli hali prune --older-than": Row("ours: a duration"),
    "cli hali prune --unfinished-after": Row("ours: a duration"),
    "cli hali completion SHELL": Row("ours: compared with the shells there are"),
    "cli hali export ollama MODEL": _LOOKED_UP,
    "cli hali export ollama --as": Row(
        "hali.export.ollama.parse_name",
        "tests/unit/export/test_ollama.py::test_names_that_ollama_would_not_take_are_refused",
    ),
    "cli hali export ollama --dir": _OPERATOR,
    "cli hali export ollama --mmproj": _LOOKED_UP,
    "cli hali export lmstudio MODEL": _LOOKED_UP,
    "cli hali export lmstudio --dir": _OPERATOR,
    "cli hali publish MODEL": _LOOKED_UP,
    "cli hali profile set --contact": _PROFILE,
    "cli hali profile set --description": _PROFILE,
    "cli hali profile set --display-name": _PROFILE,
    "cli hali profile set --website": _PROFILE,
    "cli hali registry index DIR": _OPERATOR,
    "cli hali registry serve --db": _OPERATOR,
    "cli hali registry serve --dsn": _OPERATOR,
    "cli hali registry serve --listen": _OPERATOR,
    **dict.fromkeys(
        (
            f"cli hali service {verb} TARGET"
            for verb in ("install", "uninstall", "start", "stop", "restart", "status", "logs")
        ),
        Row(
            "hali.service.targets.find_target",
            "tests/unit/service/test_units.py::test_a_target_that_is_not_built_is_refused_by_name",
        ),
    ),
    "cli hali service install --account": Row(
        "hali.service.survey.describe",
        "tests/property/test_service_words.py::test_an_account_is_a_name_and_nothing_more",
    ),
    "cli hali registry keys revoke --reason": Row("ours: text of our own, signed"),
    "cli hali handoff CLIENT": Row("ours: compared with the clients there are"),
    "cli hali handoff MODEL": _LOOKED_UP,
    "cli hali pause DURATION": Row("ours: a duration or a time of day"),
    "cli hali pull --priority": Row("ours: compared with the priorities there are"),
    "cli hali queue cancel JOB": _JOB,
    "cli hali queue move JOB": _JOB,
    "cli hali queue move PRIORITY": Row("ours: compared with the priorities there are"),
    "cli hali run MODEL": _LOOKED_UP,
    "cli hali run PROMPT": Row("ours: text for the model"),
    "cli hali run --system": Row("ours: text for the model"),
    "cli hali search TEXT": _WORDS,
    "cli hali search --sort": Row("ours: compared with the orders there are"),
    "cli hali stop MODEL": _LOOKED_UP,
    "cli hali load MODEL": _LOOKED_UP,
    "cli hali load --keep-alive": Row("ours: a duration"),
    "cli hali bench MODEL": _LOOKED_UP,
    "cli hali bench --streams": Row("ours: numbers"),
    "cli hali run --image": _OPERATOR,
    "cli hali run --format": _OPERATOR,
    "cli hali demo FILE": _OPERATOR,
    "cli hali demo --prompt": Row("ours: text for the model"),
    "cli hali keys create NAME": _KEY,
    "cli hali keys create --scope": _SCOPE,
    "cli hali keys create --expires": Row("ours: a duration"),
    "cli hali keys revoke NAME": Row("ours: compared with the keys there are"),
    "cli hali doctor --repair": Row("ours: compared with the parts that can be repaired"),
    "cli hali config get KEY": Row("ours: compared with the keys of the schema"),
    "cli hali config set KEY": Row("ours: compared with the keys of the schema"),
    "cli hali config set VALUE": Row("ours: the operator's own setting, checked by the schema"),
    "cli hali config unset KEY": Row("ours: compared with the keys of the schema"),
    # ---- the IPC, behind its token
    "ipc ping": _NO_NAME,
    "ipc status": _NO_NAME,
    "ipc stats": _NO_NAME,
    "ipc events follow": _NO_NAME,
    "ipc models": _NO_NAME,
    "ipc ps": _NO_NAME,
    "ipc load model": _LOOKED_UP,
    "ipc load keep_alive": _NO_NAME,
    "ipc bench model": _LOOKED_UP,
    "ipc bench prompt": _NO_NAME,
    "ipc bench generate": _NO_NAME,
    "ipc bench streams": _NO_NAME,
    "ipc bench repeat": _NO_NAME,
    "ipc stop": _NO_NAME,
    "ipc info model": _LOOKED_UP,
    "ipc verify model": _LOOKED_UP,
    "ipc rm model": _LOOKED_UP,
    "ipc unload model": _LOOKED_UP,
    "ipc add what": _ADDED,
    "ipc add link": _NO_NAME,
    "ipc add beside": _ADDED,
    "ipc pull what": _WHAT,
    "ipc pull quant": _QUANT,
    "ipc pull mmproj": _NO_NAME,
    "ipc choices what": _WHAT,
    "ipc choices always": _NO_NAME,
    "ipc search text": _WORDS,
    "ipc search limit": _NO_NAME,
    "ipc search sort": Row("ours: compared with the orders there are"),
    "ipc pull allow_untrusted": _NO_NAME,
    "ipc pull layers": _LAYERS,
    "ipc pull wait": _NO_NAME,
    "ipc pull priority": Row("ours: compared with the priorities there are"),
    "ipc queue": _NO_NAME,
    "ipc move job": _JOB,
    "ipc move priority": Row("ours: compared with the priorities there are"),
    "ipc drop job": _JOB,
    "ipc pause seconds": _NO_NAME,
    "ipc resume": _NO_NAME,
    "ipc reload": _NO_NAME,
    "ipc prune": _NO_NAME,
    "ipc pin model": _LOOKED_UP,
    "ipc pin pinned": _NO_NAME,
    "ipc keys": _NO_NAME,
    "ipc keys_create name": _KEY,
    "ipc keys_create scopes": _SCOPE,
    "ipc keys_create weight": _NO_NAME,
    "ipc keys_create rpm": _NO_NAME,
    "ipc keys_create tpm": _NO_NAME,
    "ipc keys_create tpd": _NO_NAME,
    "ipc keys_create expires_s": _NO_NAME,
    "ipc keys_revoke name": Row("ours: compared with the keys there are"),
    "ipc publish model": _LOOKED_UP,
    "ipc profile": _NO_NAME,
    "ipc profile_set fields": _PROFILE,
    "ipc registry_status": _NO_NAME,
    "ipc registry_index directory": _OPERATOR,
    "ipc registry_rotate": _NO_NAME,
    "ipc registry_revoke reason": Row("ours: text of our own, signed"),
    "ipc outcome job": Row("ours: compared with the jobs that have ended"),
    "ipc cancel what": _JOB,
    "ipc cancel kind": _JOB,
    "ipc cancel quant": _JOB,
    "ipc cancel mmproj": _JOB,
    "ipc cancel allow_untrusted": _JOB,
    "ipc cancel layers": _JOB,
    "ipc cancel link": _JOB,
    "ipc cancel beside": _JOB,
    # ---- the HTTP API
    "route GET /": _NO_NAME,
    "route GET /openapi.json": _NO_NAME,
    "route GET /health": _NO_NAME,
    "route GET /health/ready": _NO_NAME,
    "route GET /metrics": _NO_NAME,
    "route GET /v1/models": _NO_NAME,
    "route GET /v1/models/{name:path}": _SERVED,
    "route POST /v1/chat/completions": _SERVED,
    "route POST /v1/completions": _SERVED,
    "route POST /v1/embeddings": _SERVED,
    "route POST /v1/responses": _SERVED,
    "route POST /v1/responses/input_tokens": _SERVED,
    "route GET /v1/responses/{response_id}": _RESPONSE,
    "route DELETE /v1/responses/{response_id}": _RESPONSE,
    "route POST /v1/responses/{response_id}/cancel": _RESPONSE,
    "route GET /v1/responses/{response_id}/input_items": _RESPONSE,
    "decodes hali.api.openai_format": Row("ours: a JSON schema for the engine; it names no file"),
    "decodes hali.api.openai_items": Row("ours: items that we made"),
    "decodes hali.api.openai_messages": Row("ours: arguments of a call, checked to be an object and passed on as text"),
    "route POST /v1/messages": _SERVED,
    "route POST /v1/messages/count_tokens": _SERVED,
    "route POST /api/chat": _SERVED,
    "route POST /api/generate": _SERVED,
    "route POST /api/embed": _SERVED,
    "route POST /api/embeddings": _SERVED,
    "route GET /assets/{name}": Row(
        "hali.api.dashboard_assets.assets",
        "tests/unit/api/test_dashboard.py::test_a_name_of_an_asset_is_compared_and_never_opened",
    ),
    "route POST /dashboard/ticket": _NO_NAME,
    "route GET /dashboard/ws": _NO_NAME,
    "route WS /dashboard/ws": _NO_NAME,
    "route POST /dashboard/call/{method}": Row(
        "hali.daemon.dashboard_calls.Calls",
        "tests/unit/daemon/test_dashboard_calls.py::test_no_other_method_of_the_ipc_can_be_called",
    ),
    "route GET /api/version": _NO_NAME,
    "route GET /api/tags": _NO_NAME,
    "route GET /api/ps": _NO_NAME,
    "route POST /api/show": _SERVED,
    "route POST /api/pull": _OFFERED,
    "route DELETE /api/delete": _LOOKED_UP,
    "route POST /tokenize": _SERVED,
    "route POST /detokenize": _SERVED,
    "route POST /apply-template": _SERVED,
    "route POST /v1/rerank": _SERVED,
    "route POST /rerank": _SERVED,
    "route POST /mcp": _OFFERED,
    # ---- what is decoded
    "decodes hali.api.bodies": _SERVED,
    "decodes hali.api.mcp_tools": _OFFERED,
    "decodes hali.api.origins": Row(
        "hali.api.gate.Gate", f"{GATE}::test_strangers_get_403_on_every_route_and_cause_nothing"
    ),
    "decodes hali.cli.export": Row("ours: answers of our own daemon"),
    "decodes hali.export.lmstudio": Row("ours: our own list of what we placed there"),
    "decodes hali.export.ollama": _OPERATOR,
    "decodes hali.config.registries": _OPERATOR,
    "decodes hali.wire.bittorrent": Row(
        "hali.wire.bittorrent.length_of",
        "tests/unit/wire/test_merkle.py::test_a_message_without_end_is_refused",
    ),
    "decodes hali.registry.client": _LISTED,
    "decodes hali.registry.listing": _LISTED,
    "decodes hali.registry.folder": _FOLDER,
    "decodes hali.registry.sources": _FOLDER,
    "decodes hali.registry.local": Row("ours: the result of our own job"),
    "decodes hali.registry.lookups": Row("ours: our own database"),
    "decodes hali.registry.publisher": Row("ours: our own database"),
    "decodes hali.registry.signing": _SIGNED,
    "decodes hali.registry.writing": _SIGNED,
    "decodes hali.registry.telemetry": Row("ours: a report that we made"),
    "decodes hali.transfer.v1_twin": Row("ours: our own torrent"),
    "decodes hali.transfer.regulator": Row("ours: our own database"),
    "decodes hali.wire.jcs": _SIGNED,
    "connects hali.transfer.probe": Row(
        "hali.transfer.auditing.may_be_dialled",
        "tests/unit/transfer/test_auditing.py::test_of_guessed_ports_a_few_are_tried_and_of_ports_of_the_system_none",
    ),
    "connects hali.transfer.handoff": Row("ours: handoff.* of the operator"),
    "decodes hali.transfer.handoff": Row("ours: answers of the client that the operator named"),
    "connects hali.registry.client": Row("ours: registry.url of the operator; redirects are not followed"),
    "connects hali.registry.server": _OPERATOR,
    "connects hali.service.doctor.daemon": Row("ours: our own BitTorrent port"),
    "connects hali.service.doctor.ports": Row("ours: binds the ports of the configuration, and connects to nothing"),
    "decodes hali.config.mending": _OPERATOR,
    "decodes hali.config.schema": _OPERATOR,
    "decodes hali.service.doctor.extensions": Row("ours: what our own child process says"),
    "decodes hali.service.doctor.servers": Row(
        "ours: servers that the operator named; what they say is counted and bounded, and redirects are not followed"
    ),
    "writes hali.cli.doctor": Row("ours: fixed names in the data directory"),
    "writes hali.store.repair": Row("ours: fixed names in the data directory"),
    "writes hali.cli.completion": _OPERATOR,
    "writes hali.service.plan": Row("ours: the description of a service, in the folder of the service manager"),
    "connects hali.runtime.loopback": Row(
        "ours: asks the kernel for the flags of an interface, and connects to nothing"
    ),
    "connects hali.runtime.notify": Row("ours: the service manager that started us names its socket"),
    "writes hali.engine.trial": Row("ours: the null device"),
    "writes hali.export.folder": Row(
        "hali.export.folder.Folder", "tests/unit/export/test_folder.py::test_a_name_that_leads_elsewhere_is_refused"
    ),
    "writes hali.registry.folder": _OPERATOR,
    "writes hali.registry.publisher": Row("ours: fixed names in the data directory"),
    "writes hali.registry.server": _OPERATOR,
    "writes hali.share.leftovers": _STORE,
    "writes hali.share.partials": _PART,
    "writes hali.store.partials": _PART,
    "decodes hali.cli.attachments": _OPERATOR,
    "decodes hali.cli.transcript": _OPERATOR,
    "writes hali.cli.history": Row("ours: fixed names in the data directory"),
    "writes hali.cli.transcript": _OPERATOR,
    "decodes hali.cli.chat": Row("ours: answers of our own daemon"),
    "connects hali.cli.mcp_remote": Row("ours: the address that our own daemon told"),
    "decodes hali.cli.mcp_remote": Row("ours: answers of our own daemon"),
    "decodes hali.cli.control": Row("ours: answers of our own daemon"),
    "decodes hali.cli.logs": Row("ours: our own log"),
    "decodes hali.config.load": _OPERATOR,
    "decodes hali.daemon.client": Row("ours: answers of our own daemon"),
    "decodes hali.daemon.ipc": _WHAT,
    "decodes hali.engine.protocol": Row("ours: frames between our own processes"),
    "decodes hali.engine.tool_bodies": Row(
        "hali.engine.tool_bodies.make_call", "tests/unit/engine/test_engine_calls.py::test_calls_are_told_from_text"
    ),
    "decodes hali.engine.turns": Row("ours: arguments of a call, an object or left the text they were"),
    "decodes hali.wire.images": Row(
        "hali.wire.images.check_picture",
        "tests/unit/wire/test_images.py::test_no_cut_and_no_flipped_bits_end_in_anything_but_an_answer_or_a_refusal",
    ),
    "decodes hali.engine.worker": Row("ours: frames between our own processes"),
    "decodes hali.share.board": Row("ours: our own database"),
    "decodes hali.store.journal": Row("ours: our own journal; a damaged one is begun anew"),
    "decodes hali.store.models": Row(
        "hali.store.metadata.wrong_fields", f"{ENTRY}::test_metadata_names_no_file_outside_its_folder"
    ),
    "decodes hali.store.placing": Row(
        "hali.store.metadata.wrong_fields",
        "tests/unit/store/test_placing.py::test_a_note_that_leads_anywhere_else_moves_nothing",
    ),
    "decodes hali.store.partials": Row(
        "hali.store.partials._decode",
        "tests/unit/store/test_partials.py::test_metadata_that_hali_would_not_have_written_is_left_out",
    ),
    "decodes hali.transfer.http_guard": _LINK,
    "decodes hali.model.urls": Row(
        "hali.model.urls.origin",
        "tests/unit/transfer/test_http_guard.py::test_other_schemes_and_broken_urls_are_usage_errors",
    ),
    "decodes hali.transfer.http_location": _DIALLED,
    "decodes hali.transfer.hub_api": Row(
        "hali.model.filenames.is_safe_path", f"{HUB}::test_names_that_cannot_be_files_everywhere_are_left_out"
    ),
    "decodes hali.transfer.hub_choice": _WHAT,
    "decodes hali.transfer.lan_interfaces": Row("ours: the kernel's own structures"),
    "decodes hali.transfer.magnet": Row(
        "hali.transfer.magnet._name", f"{ENTRY}::test_no_name_of_a_link_or_torrent_becomes_a_path"
    ),
    "decodes hali.transfer.metainfo": Row(
        "hali.model.filenames.safe_name", f"{ENTRY}::test_no_name_of_a_link_or_torrent_becomes_a_path"
    ),
    "decodes hali.transfer.params": Row(
        "hali.transfer.params._finish",
        "tests/integration/test_torrent_links.py::test_no_address_in_a_torrent_makes_libtorrent_ask_this_machine",
    ),
    "decodes hali.wire.gguf": Row("hali.model.names.derive", f"{ENTRY}::test_words_of_a_gguf_header_become_no_path"),
    "decodes hali.wire.lan": Row("hali.wire.lan._is_sound", f"{ENTRY}::test_names_of_lan_packets_are_for_showing_only"),
    "decodes hali.wire.lan_v1": Row(
        "hali.wire.lan_v1._sound", f"{ENTRY}::test_names_of_lan_packets_are_for_showing_only"
    ),
    # ---- what connects or listens
    "connects hali.api.binding": _OPERATOR,
    "connects hali.daemon.client": Row("ours: the address file of our own daemon, loopback only"),
    "connects hali.daemon.ipc": Row("ours: listens on loopback"),
    "connects hali.engine.worker": Row("ours: a socket pair made by the daemon"),
    "connects hali.transfer.fetching": Row(
        "hali.share.resolve.Resolver", f"{PULL}::test_a_magnet_makes_the_daemon_connect_to_nothing_on_this_machine"
    ),
    "connects hali.transfer.http_dial": _DIALLED,
    "connects hali.transfer.hub_api": Row(
        "hali.transfer.hub_api._same_host", f"{HUB}::test_the_api_is_not_asked_elsewhere_because_a_redirect_says_so"
    ),
    "connects hali.transfer.lan_interfaces": Row("ours: the kernel, to hear of interfaces"),
    "connects hali.transfer.lan_net": _OPERATOR,
    "connects hali.transfer.listening": _OPERATOR,
    # ---- what writes files
    "writes hali.cli.demo": Row("ours: fixed names in a temporary folder"),
    "writes hali.cli.streams": Row("ours: the null device"),
    "writes hali.cli.reference": Row("ours: fixed names"),
    "writes hali.config.files": Row("ours: the callers give the path; each has a row"),
    "writes hali.config.identity": Row("ours: fixed names in the data directory"),
    "writes hali.config.last_exit": Row("ours: fixed names in the data directory"),
    "decodes hali.config.last_exit": Row("ours: fixed names in the data directory"),
    "decodes hali.api.server": Row("ours: the address that we listen at"),
    "writes hali.config.load": Row("ours: fixed names in the data directory"),
    "writes hali.config.paths": Row("ours: fixed names in the data directory"),
    "writes hali.daemon.address": Row("ours: fixed names in the data directory"),
    "writes hali.daemon.main": Row("ours: fixed names in the data directory"),
    "writes hali.daemon.terminal": Row("ours: the process's own terminal"),
    "writes hali.engine.confine": Row("ours: the process's own limits"),
    "writes hali.runtime.log": Row("ours: fixed names in the data directory"),
    "writes hali.share.importing": _STORE,
    "writes hali.share.incoming": _STORE,
    "writes hali.share.library": Row(
        "hali.store.metadata.wrong_fields", f"{ENTRY}::test_metadata_names_no_file_outside_its_folder"
    ),
    "writes hali.share.resolve": Row("ours: a .torrent that the user names is opened, and only read"),
    "writes hali.share.space": _STORE,
    "writes hali.share.swarm_lane": _STORE,
    "writes hali.store.journal": _STORE,
    "writes hali.store.models": _STORE,
    "writes hali.store.placing": _STORE,
}

DECODERS = {
    "json.load", "json.loads", "lt.bdecode", "lt.load_torrent_buffer", "lt.parse_magnet_uri", "lt.read_resume_data",
    "msgspec.convert", "msgspec.json.decode", "msgspec.json.Decoder", "msgspec.msgpack.decode", "msgspec.msgpack.Decoder",
    "parse_qs", "parse_qsl", "pickle.loads", "struct.unpack", "struct.unpack_from", "tarfile.open", "tomlkit.parse",
    "tomllib.load", "tomllib.loads", "urljoin", "urlparse", "urlsplit", "zipfile.ZipFile",
}  # fmt: skip
CONNECTORS = {
    "anyio.connect_tcp", "anyio.create_tcp_listener", "anyio.create_udp_socket", "asyncio.open_connection",
    "asyncio.start_server", "get_session", "httpcore.AsyncConnectionPool", "httpx.AsyncClient", "httpx.Client", "httpx.get",
    "httpx.post", "httpx.request", "httpx.stream", "socket.create_connection", "socket.create_server", "socket.socket",
    "urlopen", "urllib.request.urlopen", "connect_peer", "create_datagram_endpoint",
}  # fmt: skip
WRITERS = {
    "os.link", "os.makedirs", "os.mkdir", "os.open", "os.remove", "os.rename", "os.replace", "os.symlink", "os.unlink",
    "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move", "shutil.rmtree",
    "write_atomically", "write_secret",
    "hardlink_to", "mkdir", "rename", "rmdir", "symlink_to", "touch", "unlink", "write_bytes", "write_text",
}  # fmt: skip
KINDS = {"decodes": DECODERS, "connects": CONNECTORS, "writes": WRITERS}


def found() -> set[str]:
    """Every entry point of the package."""
    return {*_routes(), *_ipc(), *_commands(), *_modules()}


def _routes() -> Iterator[str]:
    app = build_app(ApiDeps(catalog=None, router=None))  # type: ignore[arg-type]  # nothing is asked of them
    for route in app.routes:
        for method in sorted(getattr(route, "methods", {"WS"}) - {"HEAD"}):
            yield f"route {method} {route.path}"  # type: ignore[attr-defined]


def _ipc() -> Iterator[str]:
    """Methods with the parameters that they, and the functions they call, read by `field(params, NAME, …)`."""
    for module in ("methods", "registry", "keys", "engines", "watching"):
        yield from _ipc_of(ast.parse((SOURCE / "daemon" / f"{module}.py").read_text()))


def _ipc_of(tree: ast.Module) -> Iterator[str]:
    methods = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    helpers = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (table,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "table")
    for entry in ast.walk(table):
        if isinstance(entry, ast.Dict):
            for key, value in zip(entry.keys, entry.values, strict=True):
                assert isinstance(key, ast.Constant) and isinstance(value, ast.Attribute)
                names = sorted(set(_fields(methods[value.attr], helpers)))
                yield from (f"ipc {key.value} {name}" for name in names)
                if not names:
                    yield f"ipc {key.value}"


def _fields(method: ast.AST, helpers: Mapping[str, ast.FunctionDef]) -> Iterator[str]:
    for call in ast.walk(method):
        if isinstance(call, ast.Call) and (name := ast.unparse(call.func)) == "field":
            assert isinstance(call.args[1], ast.Constant)
            yield str(call.args[1].value)
        elif isinstance(call, ast.Call) and name in helpers:
            yield from _fields(helpers[name], helpers)


def _commands() -> Iterator[str]:
    for name, (module, _) in COMMANDS.items():
        for each in _leaves(apps.find(importlib.import_module(module).app, name)):
            for param in each.command.params:
                if param.type_descriptor.annotation in (bool, int, float):
                    continue
                shown = param.opts[0] if param.opts[0].startswith("-") else param.metavar or str(param.name).upper()
                yield f"cli {each.path} {shown}"


def _leaves(command: apps.Found) -> Iterator[apps.Found]:
    """Commands under `command` that are no groups."""
    for child in command.children.values():
        yield from _leaves(child)
    if not command.children:
        yield command


def _modules() -> Iterator[str]:
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.walk(ast.parse(path.read_text()))
        # Also what is called by another: in a thread, by `partial`.
        calls = {ast.unparse(each) for node in tree if isinstance(node, ast.Call) for each in (node.func, *node.args)}
        names = calls | {call.rpartition(".")[2] for call in calls if "." in call}
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        yield from (f"{kind} {module}" for kind, known in KINDS.items() if names & known)


def resolves(dotted: str) -> bool:
    """True if `dotted` names something in a module of the package."""
    module, _, name = dotted.rpartition(".")
    return hasattr(importlib.import_module(module), name)
