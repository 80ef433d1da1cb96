"""Who is asking: a signed cookie per browser.

Single-person mode: whoever opens the page is the owner of the workspace. Each browser still gets an id of its own, so
that what was typed in one never shows up in another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from llmops_kit.access import User
from llmops_kit.errors import WorkspaceError

_KEY_BYTES = 32
_ID_BYTES = 32  # 256 bits: not to be guessed
_COOKIE_AGE_S = 60 * 60 * 24 * 90
_VALUE = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9a-f]{64})")


class Identity:
    """Makes and reads the identity cookie. `key` signs it; cookies of another key are as good as none."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Cookies ignore ports, so two workspaces open at once need two names.
        self._name = "llmops_id_" + hashlib.sha256(b"name" + key).hexdigest()[:8]

    def cookie_name(self, *, secure: bool) -> str:
        """The cookie's name: with the `__Host-` prefix where it travels by TLS, which no sibling host can plant."""
        return f"__Host-{self._name}" if secure else self._name

    def issue(self, *, secure: bool) -> tuple[User, str]:
        """A new person and the `Set-Cookie` line that remembers them."""
        user = User(secrets.token_urlsafe(_ID_BYTES))
        value = f"{user.id}.{self._sign(user.id)}"
        line = f"{self.cookie_name(secure=secure)}={value}; Path=/; Max-Age={_COOKIE_AGE_S}; HttpOnly; SameSite=Strict"
        return user, line + ("; Secure" if secure else "")

    def read(self, cookie_header: str, *, secure: bool) -> User | None:
        """The person of a `Cookie` header, or None. Two cookies of our name mean somebody planted one: None as well."""
        name = self.cookie_name(secure=secure)
        pairs = (part.strip().partition("=") for part in cookie_header.split(";"))
        values = [value for key, _, value in pairs if key == name]
        parts = _VALUE.fullmatch(values[0]) if len(values) == 1 else None
        if parts is None or not hmac.compare_digest(self._sign(parts[1]), parts[2]):
            return None
        return User(parts[1])

    def _sign(self, user_id: str) -> str:
        return hmac.new(self._key, user_id.encode(), hashlib.sha256).hexdigest()


def load_key(file: Path) -> bytes:
    """The signing key kept in `file` (readable by its owner only), made on first use. Raises: WorkspaceError."""
    try:
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            file.chmod(0o600)
            key = file.read_bytes()
        else:
            key = secrets.token_bytes(_KEY_BYTES)
            with os.fdopen(descriptor, "wb") as out:
                out.write(key)
    except OSError as error:
        raise WorkspaceError(path=file, reason=error.strerror or error) from error
    if len(key) != _KEY_BYTES:
        raise WorkspaceError(
            en=f"The key file {file} is damaged. Delete it and start again; open browsers then count as new ones.",
            ja=f"キーファイル{file}が壊れています。削除してから起動し直してください（開いているブラウザーは新しい参加者として扱われます）。",
            path=file,
        )
    return key
