"""What goes with a prompt: images as data URLs, and the form that a reply must have."""

from __future__ import annotations

import base64
import json
from typing import Any

from hali.cli.given import MAX_BODY, contents
from hali.model.errors import UsageError
from hali.wire.images import check_picture

MAX_IMAGE = 5_500_000  # bytes, also of all images of a prompt: as base64 the API's limit of 8 MiB for a body


def image_url(file: str) -> str:
    """The `data:` URL of an image file; UsageError for what the API would not take for one."""
    data = contents(file, MAX_IMAGE)
    try:
        kind = check_picture(data)
    except UsageError as wrong:
        raise UsageError(f"{file}: {wrong.message}", hint="convert it first: a PNG of a few million pixels") from None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def with_image(images: tuple[str, ...], file: str) -> tuple[str, ...]:
    """The images of a prompt with one more; UsageError for what `image_url` refuses, and where they are too large together."""
    found = (*images, image_url(file))
    if images and sum(map(len, found)) * 3 // 4 > MAX_IMAGE:
        what = f"the images are larger than {MAX_IMAGE / 1e6:.1f} MB together"
        raise UsageError(what, hint="make them smaller first, or ask about them one by one")
    return found


def content_of(prompt: str, images: tuple[str, ...]) -> str | list[dict[str, Any]]:
    """The content of a message: the images (data URLs) before the question about them."""
    if not images:
        return prompt
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [*parts, {"type": "text", "text": prompt}]


def response_format(text: str) -> dict[str, Any]:
    """`json`, or a file with a JSON schema, as the API takes it; UsageError for what is neither."""
    if text == "json":
        return {"type": "json_object"}
    try:
        schema = json.loads(contents(text, MAX_BODY))
    except ValueError as exc:
        raise UsageError(
            f"{text} is no JSON: {exc}", hint="--format takes `json` or a file with a JSON schema"
        ) from None
    if not isinstance(schema, dict | bool):
        raise UsageError(f"{text} is no JSON schema: it is no object")
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
