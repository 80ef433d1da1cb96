"""Reading what a request says about where it goes and where it comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from starlette.types import Scope


def is_loopback(name: str) -> bool:
    """Whether a host name or address is this very machine."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def read_headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; several of a name joined as HTTP says (cookies by `;`)."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}{'; ' if key == 'cookie' else ', '}{text}" if key in found else text
    return found


def comes_from_elsewhere(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a link on another site led to the page, so that our cookie may exist and only have stayed behind."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    referrer = headers.get("referer", "")
    return bool(referrer) and not referrer.startswith(f"{scope['scheme']}://{headers.get('host', '')}/")


def host_name(host: str) -> str:
    """The name in a Host header, without the port and in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def single(query: Mapping[str, list[str]], name: str) -> str | None:
    """The value of a query parameter that is there exactly once, else None."""
    values = query.get(name, [])
    return values[0] if len(values) == 1 else None
