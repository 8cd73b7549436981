"""Secrets that a service manager hands over: files in `$CREDENTIALS_DIRECTORY` (systemd's LoadCredential=), readable by us only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hali.model.errors import ConfigError

HF_TOKEN = "hf_token"
API_KEY = "api_key"


def credential(name: str, env: Mapping[str, str] | None = None) -> str | None:
    """The secret called `name` without surrounding blanks; None when none was handed over, ConfigError for one that is no text."""
    env = os.environ if env is None else env
    folder = env.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    try:
        text = (Path(folder) / name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not plain text"
        raise ConfigError(
            f"cannot read the credential {name}: {reason}", hint="see LoadCredential= of the unit"
        ) from None
    if not text or not text.isprintable():
        raise ConfigError(f"the credential {name} is empty or has line breaks", hint="write one line into its file")
    return text
