"""Settings while work goes on.

Whoever works for long looks again at every turn. A changed file is taken up as a
whole and told to the ledger; `--set` stays on top of it. A file that became bad
or went missing changes nothing that is in force: capture goes on with the last
good settings, and `refusal` says why no heavy work may start until it is mended.
"""

from __future__ import annotations

from sterling.kernel.batch import Batch, Draft
from sterling.kernel.canonical import Json
from sterling.kernel.config import Config, ConfigMissing, changed_keys
from sterling.kernel.errors import SterlingError
from sterling.kernel.home import Home

__all__ = ["ConfigWatch"]

_SENTENCE_LETTERS_MAX = 1000


class ConfigWatch:
    """The settings of an open home as its file says them now."""

    def __init__(self, home: Home) -> None:
        self._home, self._path = home, home.path / "sterling.toml"
        self._seen: bytes | None = None
        self.refusal: SterlingError | None = None

    def look(self) -> Config:
        """The settings in force; a changed file is taken up, and the home has them from then on.

        Cost: reading one small file.
        Errors: what keeps the ledger from taking the entry.
        """
        before = self._home.config
        raw, refusal = self._read()
        if raw == self._seen and raw is not None:
            return before
        if refusal is None and raw is not None:
            try:
                self._take(before, before.reread(raw, path=str(self._path)))
            except SterlingError as problem:
                if not problem.code.startswith("config."):
                    raise
                refusal = problem
        if refusal is not None and (self.refusal is None or refusal.message != self.refusal.message):
            told = {
                "code": refusal.code,
                "message": refusal.message[:_SENTENCE_LETTERS_MAX],
                "kept": before.sha256,
            }
            self._tell("config.invalid", told)
        self._seen, self.refusal = raw, refusal
        return self._home.config

    def _read(self) -> tuple[bytes | None, SterlingError | None]:
        try:
            return self._path.read_bytes(), None
        except OSError as problem:
            found = f"expected settings in {self._path}, found: {problem.strerror}"
            return None, ConfigMissing(found, path=str(self._path))

    def _take(self, before: Config, after: Config) -> None:
        keys = changed_keys(before, after)
        newest = self._home.ledger.newest("config")
        is_told = newest is not None and newest.payload.get("after") == after.sha256  # `config set` did.
        if self.refusal is not None or (keys and not is_told):
            self._tell("config.changed", {"before": before.sha256, "after": after.sha256, "keys": list(keys)})
        self._home.config = after

    def _tell(self, kind: str, payload: dict[str, Json]) -> None:
        self._home.ledger.commit(Batch(drafts=[Draft(kind, payload, subject="config")]))
