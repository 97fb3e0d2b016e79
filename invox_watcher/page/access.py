"""Who looks, and may: by a trusted proxy's header, or by a session that began with a password."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invox_watcher.accounts import Role, User, is_nobody, is_user_name, same_name
from invox_watcher.page.limits import Attempts
from invox_watcher.page.model import Sight, Viewer
from invox_watcher.page.peers import Network, Peer, peer_of
from invox_watcher.page.sessions import Session, Sessions
from invox_watcher.page.users import Users, is_password_of


@dataclass(frozen=True)
class Identity:
    """Who sent a request."""

    viewer: Viewer
    address: str  # of the browser
    session: Session | None  # None if a proxy names the viewer


@dataclass(frozen=True)
class SignedIn:
    """What came of the right password."""

    session_id: str
    name: str  # as the users file spells it


@dataclass(frozen=True)
class AccessRules:
    """How viewers are known."""

    trusted_proxies: Sequence[Network] = ()
    user_header: str | None = None
    header_roles: Collection[Role] = ()  # of those whom a proxy names and the users file does not
    header_roles_beside_limits: bool = False  # those too if the users file gives someone less
    session_seconds: float = 8 * 3600
    idle_seconds: float = 3600


class Access:
    """Who may look. `users` is None if no one has a password."""

    def __init__(
        self, users: Users | None, rules: AccessRules, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._users, self._rules = users, rules
        self._sessions = Sessions(rules.session_seconds, rules.idle_seconds, clock)
        self._key = secrets.token_bytes(32)
        self.attempts = Attempts(clock)

    @property
    def has_passwords(self) -> bool:
        """Whether one can sign in with a password."""
        return self._users is not None

    def peer(self, scope: Mapping[str, Any]) -> Peer:
        """The browser that sent the request of this ASGI scope."""
        return peer_of(scope, self._rules.trusted_proxies, self._rules.user_header)

    def identify(self, peer: Peer, *, is_activity: bool) -> Identity | None:
        """Who it is; None if that is not known. One who is known may have no role.

        `is_activity`: whether a person asked, and not a page that updates itself.

        Raises:
            UsersFileError: the users file can't be used.
        """
        if peer.named is not None and not is_nobody(peer.named):
            return Identity(self._named(peer.named), peer.address, None)
        session = self._sessions.get(peer.cookies.get(cookie_name(peer), ""), is_activity=is_activity)
        if session is None or not self._is_unchanged(session):
            return None
        return Identity(_viewer_of(session.user), peer.address, session)

    def is_current(self, identity: Identity) -> bool:
        """Whether that viewer still has the same rights, and the session has not ended.

        Raises:
            UsersFileError: the users file can't be used.
        """
        if identity.session is None:
            return self._named(identity.viewer.name) == identity.viewer
        return self._sessions.is_open(identity.session) and self._is_unchanged(identity.session)

    def sign_in(self, name: str, password: str) -> SignedIn | None:
        """A new session; None if the password is wrong. Takes a quarter of a second either way.

        Raises:
            UsersFileError: the users file can't be used.
        """
        user = self._users.get(name) if self._users is not None else None
        if not is_password_of(user, password) or user is None:
            return None
        return SignedIn(self._sessions.begin(user), user.name)

    def sign_out(self, identity: Identity) -> None:
        """End the session."""
        if identity.session is not None:
            self._sessions.end(identity.session)

    def form_token(self, identity: Identity) -> str:
        """What the forms of this viewer carry."""
        if identity.session is not None:
            return identity.session.form_token()
        return hmac.digest(self._key, identity.viewer.name.encode("utf-8", "replace"), "sha256").hex()

    def is_own_form(self, identity: Identity, token: str) -> bool:
        """Whether a form that carries this token is one of this viewer's."""
        return hmac.compare_digest(self.form_token(identity).encode(), token.encode("utf-8", "replace"))

    def _named(self, name: str) -> Viewer:
        users = self._users.all() if self._users is not None else {}
        if (user := users.get(same_name(name))) is not None:
            return _viewer_of(user)
        if not is_user_name(name):
            return Viewer("?", frozenset())
        roles = frozenset(self._rules.header_roles)
        if not self._rules.header_roles_beside_limits and any(
            one.has_less_than(roles) for one in users.values()
        ):
            # It may be one of those: what a directory takes for the same name can't be known here.
            roles = frozenset()
        return Viewer(name, roles | {Role.SEE} if roles else roles)

    def _is_unchanged(self, session: Session) -> bool:
        """A user who was removed, or has other rights or another password, has to sign in again."""
        assert self._users is not None  # noqa: S101 - else there would be no session
        if self._users.get(session.user.name) == session.user:
            return True
        self._sessions.end(session)
        return False


def _viewer_of(user: User) -> Viewer:
    return Viewer(user.name, user.roles, Sight(user.profiles))


def cookie_name(peer: Peer) -> str:
    """The cookie's name: browsers take one called `__Host-` only by https, and from no other host."""
    return "__Host-invox-watcher" if peer.is_https else "invox-watcher"
