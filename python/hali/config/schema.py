"""The settings. Each key is declared here once: name, type, default, limits, unit, doc. Everything else is derived.

A nested struct is a dotted key: `LanSettings.enabled` is `lan.enabled`, `HALI_LAN_ENABLED`, `--lan-enabled`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hali.config.adapters import parse_adapters, parse_drafts
from hali.config.checks import check_endpoint, listen_address, models_folder
from hali.config.peers import check_peers
from hali.config.registries import parse_all
from hali.config.schedule import Schedule
from hali.model.errors import UsageError

Port = Annotated[int, Meta(ge=0, le=65535)]


def _doc(
    text: str,
    unit: str = "",
    *,
    env: str = "",
    secret: bool = False,
    live: bool = False,
    separator: str = ",",
    check: Callable[[Any], object] | None = None,
    **limits: Any,
) -> Meta:
    extra = {"unit": unit, "env": env, "secret": secret, "live": live, "separator": separator, "check": check}
    return Meta(description=text, extra=extra, **limits)


def _web_addresses(urls: tuple[str, ...]) -> None:
    """UsageError for what is no http(s) URL, and for one with a password, which reports and `config show` would tell."""
    for number, url in enumerate(urls, 1):
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise UsageError(f"URL {number} is not http://HOST:PORT or https://HOST") from None
        if "@" in parts.netloc:
            raise UsageError(f"URL {number} may hold no user name or password")
        if not usable:
            raise UsageError(f"URL {number} is not http://HOST:PORT or https://HOST")


class TorrentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """BitTorrent beyond the port and the caps."""

    lsd: Annotated[
        bool, _doc("Announce torrents on the LAN by Local Service Discovery (BEP 14), so that any client finds us.")
    ] = True
    dht: Annotated[bool, _doc("Join the public DHT. Off: infohashes stay on the LAN.")] = False
    dht_bootstrap: Annotated[
        tuple[str, ...],
        _doc("Nodes that introduce us to the DHT: host:port, comma separated; a private DHT names its own."),
    ] = ("dht.libtorrent.org:25401", "router.bittorrent.com:6881")
    upnp: Annotated[bool, _doc("Ask the router to open the torrent port (UPnP and NAT-PMP).")] = False
    v1_twins: Annotated[
        bool,
        _doc(
            "Seed a v1 torrent of each model too, for clients that cannot read hybrid ones (Transmission before 4.0)."
        ),
    ] = True
    private_web_seeds: Annotated[
        bool,
        _doc("Ask web seeds that a torrent names also inside this network and without TLS. Their bytes are checked."),
    ] = False
    loopback_peers: Annotated[
        bool, _doc("Connect to peers on this machine that a magnet link names: for several nodes on one machine.")
    ] = False


class LanSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Discovery of other nodes."""

    enabled: Annotated[bool, _doc("Announce our models on the LAN and listen for those of others.")] = True
    port: Annotated[Port, _doc("UDP port of the announcements; the same on all nodes.", "port")] = 4269
    peers: Annotated[
        tuple[str, ...],
        _doc(
            "Nodes in other subnets to announce to and ask by unicast: host, host:port or [IPv6]:port, comma separated. "
            "Public addresses are heard only if they are listed here, are in a network of this machine, or have the secret.",
            check=check_peers,
        ),
    ] = ()
    hmac_enabled: Annotated[
        bool,
        _doc(
            "Sign announcements with an HMAC by the shared secret, and hear only those that carry it. "
            "Nodes with and without it do not hear each other."
        ),
    ] = False
    hmac_shared_secret: Annotated[
        str, _doc("64 hex digits, the same on all nodes of the LAN.", secret=True, pattern="^([0-9a-fA-F]{64})?$")
    ] = ""


class HfSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hugging Face."""

    endpoint: Annotated[
        str,
        _doc("Hub or mirror to resolve repositories at.", "URL", env="HF_ENDPOINT", check=check_endpoint),
    ] = "https://huggingface.co"
    connections: Annotated[int, _doc("Parallel ranged connections for one file.", "connections", ge=1, le=32)] = 8


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lists of models that publishers signed."""

    url: Annotated[
        tuple[str, ...],
        _doc(
            "Registries to search and to publish to, comma separated; empty = none. A static one is named with the key that signs "
            "it: `https://host/folder#ed25519:KEY` or `file:///folder#ed25519:KEY`.",
            "URL",
            check=parse_all,
        ),
    ] = ()
    publish: Annotated[
        bool, _doc("Publish every model that is added or pulled: its names and hashes, never its bytes.")
    ] = False


class StorageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The room that models may take."""

    quota_gb: Annotated[
        float,
        _doc(
            "Room for all models; a pull that needs more is refused and told what `hali prune` would free. 0 = no limit.",
            "GB",
            ge=0,
            le=1e6,
        ),
    ] = 0.0


class ApiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP API."""

    require_key: Annotated[
        bool, _doc("Ask for an API key on loopback too. On any other address one is always needed.")
    ] = False
    queue: Annotated[
        int,
        _doc(
            "Requests that may wait for a turn with one model; who comes later gets 503 and when to come back.",
            "requests",
            ge=1,
            le=100_000,
        ),
    ] = 128  # 16 rounds of the usual 8 slots: beyond that an answer would come too late to be wanted
    queue_per_key: Annotated[
        int,
        _doc("… of one key, so that nobody fills the queue alone; then 429.", "requests", ge=1, le=100_000),
    ] = 64
    queue_wait_s: Annotated[
        float, _doc("How long a request waits for its turn, then 503.", "s", ge=0.001, le=86_400)
    ] = 300.0  # below the 600 s after which the OpenAI clients give up
    requests_per_minute: Annotated[
        int,
        _doc(
            "Requests a minute of each key made by `hali keys create` without --rpm, and of all who need no key together; "
            "0 = no limit.",
            "requests/min",
            ge=0,
            le=10**9,
        ),
    ] = 0
    tokens_per_minute: Annotated[
        int,
        _doc("The same for tokens, of prompts and replies; 0 = no limit.", "tokens/min", ge=0, le=10**9),
    ] = 0


class HandoffSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Other BitTorrent clients that `hali handoff` gives models to."""

    qbittorrent_url: Annotated[str, _doc("qBittorrent's Web UI.", "URL", pattern="^https?://")] = (
        "http://127.0.0.1:8080"
    )
    qbittorrent_user: Annotated[str, _doc("Its user name; empty where it asks for none.")] = ""
    qbittorrent_password: Annotated[str, _doc("Its password.", secret=True)] = ""
    transmission_url: Annotated[str, _doc("Transmission's RPC, without a path.", "URL", pattern="^https?://")] = (
        "http://127.0.0.1:9091"
    )
    transmission_user: Annotated[str, _doc("Its user name; empty where it asks for none.")] = ""
    transmission_password: Annotated[str, _doc("Its password.", secret=True)] = ""


class UpstreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inference servers beside hali's own engine."""

    urls: Annotated[
        tuple[str, ...],
        _doc(
            "Other inference servers that this node counts on, comma separated: Ollama, LM Studio or any with OpenAI's API, for example "
            "`http://127.0.0.1:11434`. `hali doctor` fails when one does not answer.",
            "URL",
            check=_web_addresses,
        ),
    ] = ()


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """llama.cpp workers."""

    threads: Annotated[
        int,
        _doc(
            "Threads of one worker; 0 = half the cores for one sequence, and for several all but two of them.",
            "threads",
            ge=0,
            le=1024,
        ),
    ] = 0
    n_ctx: Annotated[
        int, _doc("Context of one sequence; 0 = what the model was trained with, at most 4096.", "tokens", ge=0)
    ] = 0
    slots: Annotated[int, _doc("Sequences decoded together in one model.", "sequences", ge=1, le=256)] = 8
    gpu_layers: Annotated[
        Literal["auto"] | Annotated[int, Meta(ge=-1)],
        _doc(
            "Layers to put on GPUs when llama.cpp was built for them. `auto`: as many as fit the memory that is free there when a model is "
            "loaded, none without a GPU; 0 = none, -1 = all.",
            "layers",
        ),
    ] = "auto"
    lora: Annotated[
        tuple[str, ...],
        _doc(
            "LoRA adapters (GGUF) that change what models say, as `MODEL=FILE` or `MODEL=FILE@SCALE`, for example "
            "`smollm2=/models/pirate.gguf@0.5`. MODEL: an id, or its beginning up to a colon; FILE: the whole path; several for one model "
            "add up. A model is loaded anew to take them.",
            check=parse_adapters,
        ),
    ] = ()
    draft: Annotated[
        tuple[str, ...],
        _doc(
            "Draft models: small ones (GGUF) that guess what a large one of the same vocabulary will say, as `MODEL=FILE`, for example "
            "`qwen3:8b=/models/qwen3-0.6b.gguf`. MODEL: an id, or its beginning up to a colon, the first entry that fits; FILE: the whole "
            "path. `engine.speculation` says when it is asked. A model is loaded anew to take it.",
            check=parse_drafts,
        ),
    ] = ()
    prefix_cache: Annotated[
        bool,
        _doc(
            "Keep the KV cells of past texts in memory, at most 1 GiB a model, so that one that begins alike starts at once."
        ),
    ] = True
    speculation: Annotated[
        Literal["auto", "off", "always"],
        _doc(
            "Compute the tokens that probably follow ahead, by what followed the same words before, or by a draft model (`engine.draft`). "
            "`auto`: while that is measured to pay; "
            "`off`: then a reply alone has llama.cpp's own roundings."
        ),
    ] = "auto"
    max_loaded: Annotated[
        int, _doc("Models held in memory at once; the least recently used one gives way.", "models", ge=1)
    ] = 2
    memory_gb: Annotated[
        float,
        _doc(
            "Memory for all loaded models together, by estimate; a model that needs more room than is left makes others go, and gets "
            "a shorter context where it does not fit alone. 0 = what the machine or the container has, less a reserve.",
            "GB",
            ge=0,
            le=1e6,
        ),
    ] = 0.0
    keep_alive: Annotated[
        float,
        _doc(
            "How long a model stays in memory after its last request; 0 = it goes at once, -1 = it stays.",
            "seconds",
            ge=-1,
            le=1e9,
        ),
    ] = 600.0  # reloading takes seconds, and whoever thinks about an answer for ten minutes has left


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """OpenTelemetry."""

    otlp_endpoint: Annotated[
        str,
        _doc(
            "Collector that is told of each HTTP request as spans (the whole, queue, load, prefill, decode; never a text), by "
            "OTLP over HTTP: `http://127.0.0.1:4318`. Empty = none. Needs `pip install 'hali[otel]'`.",
            "URL",
            env="OTEL_EXPORTER_OTLP_ENDPOINT",
            pattern="^(https?://.+)?$",
        ),
    ] = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings with their values."""

    streaming_hash: Annotated[
        bool, _doc("Hash pieces while they arrive; off: hash the finished file, shown as `hashing`.")
    ] = True
    debug: Annotated[bool, _doc("Log debug messages.")] = False
    max_upload_mbps: Annotated[
        float, _doc("Cap over all uploads; 0 = none. 8 Mbit/s are 1 MB/s.", "Mbit/s", live=True, ge=0, le=1e6)
    ] = 0.0
    max_download_mbps: Annotated[
        float,
        _doc(
            "Cap over the sum of all downloads, torrents and HTTP; 0 = none. 8 Mbit/s are 1 MB/s.",
            "Mbit/s",
            live=True,
            ge=0,
            le=1e6,
        ),
    ] = 0.0
    schedule: Annotated[
        tuple[str, ...],
        _doc(
            "Weekly caps and pauses by local time, as texts `DAYS FROM-TO ACTION`, separated by `;` outside the file, for example "
            "`mon-fri 08:00-18:00 down=20 up=5; sat,sun 00:00-24:00 pause`. DAYS: `daily`, or `mon` to `sun` in ranges and lists; an "
            "end that is not after its beginning is on the next day; ACTION: `pause`, or `down=N` and `up=N` in Mbit/s with 0 = no cap. "
            "The last of overlapping entries holds; outside all of them, and for what an entry does not name, the caps above do.",
            live=True,
            separator=";",
            check=Schedule.parse,
        ),
    ] = ()
    pull_concurrency: Annotated[
        int, _doc("Pulls under way at a time; more wait in the queue.", "pulls", live=True, ge=1, le=32)
    ] = 4  # each may use all cores for hashing and eight connections; more only make all of them late
    models_dir: Annotated[
        str, _doc("Where models are kept; empty = `models` in the data directory.", "path", check=models_folder)
    ] = ""
    daemon_listen_addr: Annotated[
        str,
        _doc("Address of the HTTP API. Anything but loopback demands an API key.", "address", check=listen_address),
    ] = "127.0.0.1"
    daemon_port: Annotated[
        Port,
        _doc(
            "Port of the HTTP API; 0 = any free one. If the default is taken by another node, the next free one.",
            "port",
        ),
    ] = 47433
    torrent_port: Annotated[
        Port, _doc("BitTorrent port (TCP and uTP); 0 = a free one, then kept across restarts.", "port")
    ] = 0
    telemetry: Annotated[
        bool,
        _doc("Report to the registries how pulls ended. `hali telemetry status` prints exactly what would be sent."),
    ] = False
    torrent: TorrentSettings = TorrentSettings()
    lan: LanSettings = LanSettings()
    hf: HfSettings = HfSettings()
    registry: RegistrySettings = RegistrySettings()
    storage: StorageSettings = StorageSettings()
    handoff: HandoffSettings = HandoffSettings()
    api: ApiSettings = ApiSettings()
    engine: EngineSettings = EngineSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    tracing: TracingSettings = TracingSettings()


class Key(msgspec.Struct, frozen=True):
    """One key as people see it."""

    name: str  # dotted
    type: Any
    default: Any
    doc: str
    unit: str
    env: str
    flag: str
    secret: bool
    also_env: str = ""  # a name other tools already use, read when ours is not set
    live: bool = False  # a running daemon takes a new value at once
    separator: str = ","  # of a list's items in flags, the environment and `config set`
    check: Callable[[Any], object] | None = None  # raises UsageError for values that have the type and yet no meaning

    @property
    def choices(self) -> list[str] | None:
        """The texts it may be, where these are a few."""
        kind = get_args(self.type)[0]
        return list(get_args(kind)) if get_origin(kind) is Literal else None


def _keys_of(kind: type[msgspec.Struct], prefix: str) -> list[Key]:
    found: list[Key] = []
    hints = msgspec.inspect.type_info(kind)
    annotations = {f.name: f for f in msgspec.structs.fields(kind)}
    assert isinstance(hints, msgspec.inspect.StructType)
    for field in hints.fields:
        name = f"{prefix}{field.name}"
        if isinstance(field.type, msgspec.inspect.StructType):
            found += _keys_of(field.type.cls, f"{name}.")
            continue
        found.append(_key(name, annotations[field.name]))
    return found


def _key(name: str, field: msgspec.structs.FieldInfo) -> Key:
    meta = next(m for m in field.type.__metadata__ if isinstance(m, Meta) and m.extra is not None)
    extra = meta.extra or {}
    flat = name.replace(".", "_")
    return Key(
        name=name,
        type=field.type,
        default=field.default,
        doc=meta.description or "",
        unit=extra["unit"],
        env=f"HALI_{flat.upper()}",
        flag=f"--{flat.replace('_', '-')}",
        secret=extra["secret"],
        also_env=extra["env"],
        live=extra["live"],
        separator=extra["separator"],
        check=extra["check"],
    )


KEYS: dict[str, Key] = {key.name: key for key in _keys_of(Settings, "")}


def value_of(settings: Settings, name: str) -> Any:
    """The value of dotted key `name`."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value
