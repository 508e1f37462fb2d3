"""Why a plugin is refused: one class and one code a reason.

Every refusal names the plugin's file, so that one bad plugin can be found among
a hundred good ones, and all of them are raised before any plugin code runs.
"""

from __future__ import annotations

from sterling.kernel.errors import SterlingError

__all__ = [
    "PluginAltered",
    "PluginApiRange",
    "PluginConflict",
    "PluginContractUnknown",
    "PluginDownstreamMissing",
    "PluginIdDuplicate",
    "PluginLaneMissing",
    "PluginLaneRoleConflict",
    "PluginLibraryUndeclared",
    "PluginLockStale",
    "PluginManifestInvalid",
    "PluginNotListed",
    "PluginPathEscape",
    "PluginPermissionWidened",
    "PluginRefused",
    "PluginUndeclaredImport",
    "PluginUntrustedNetwork",
]


class PluginRefused(SterlingError):
    """A plugin that may not be loaded. `plugin` is `pack/id`, or the file when it has no id."""

    hint = "See every refusal with `sterling plugins check`."

    def __init__(self, plugin: str, message: str) -> None:
        super().__init__(f"{plugin}: {message}", plugin=plugin)
        self.plugin = plugin


class PluginNotListed(PluginRefused):
    """The lock does not list this plugin."""

    code = "plugin.not-listed"
    hint = "If it is yours, list it: `sterling plugins lock --reason TEXT`."


class PluginAltered(PluginRefused):
    """Manifest, code or contracts differ from what the lock pins."""

    code = "plugin.altered"
    hint = "If the change is yours, pin it: `sterling plugins lock --reason TEXT`."


class PluginLockStale(PluginRefused):
    """The lock is absent, unreadable, or made for other versions of the plugin API or lane policy."""

    code = "plugin.lock-stale"
    hint = "Write it anew: `sterling plugins lock --reason TEXT`."


class PluginManifestInvalid(PluginRefused):
    """The manifest is not TOML, or breaks its contract."""

    code = "plugin.manifest-invalid"


class PluginLaneMissing(PluginRefused):
    """No lane is stated, or one that does not exist. Lanes are never guessed."""

    code = "plugin.lane-missing"


class PluginLaneRoleConflict(PluginRefused):
    """The flags say something else than the lane."""

    code = "plugin.lane-role-conflict"


class PluginDownstreamMissing(PluginRefused):
    """An explanation that feeds nobody and does not say that it is the end of a line."""

    code = "plugin.downstream-missing"


class PluginIdDuplicate(PluginRefused):
    """Two plugins of a pack have one id."""

    code = "plugin.id-duplicate"


class PluginPathEscape(PluginRefused):
    """A file of the plugin lies outside the pack's plugin folder."""

    code = "plugin.path-escape"


class PluginPermissionWidened(PluginRefused):
    """The plugin asks for more than the lock granted."""

    code = "plugin.permission-widened"
    hint = "Grant it by name: `sterling plugins lock --reason TEXT --accept-permission ID`."


class PluginContractUnknown(PluginRefused):
    """A contract in or out that nobody registered."""

    code = "plugin.contract-unknown"


class PluginApiRange(PluginRefused):
    """The plugin is written for another version of the plugin API."""

    code = "plugin.api-range"


class PluginLibraryUndeclared(PluginRefused):
    """The code imports a library that the manifest does not need."""

    code = "plugin.library-undeclared"


class PluginConflict(PluginRefused):
    """The manifest says two things that cannot both hold."""

    code = "plugin.conflict"


class PluginUntrustedNetwork(PluginRefused):
    """An untrusted plugin asks for the network."""

    code = "plugin.untrusted-network"


class PluginUndeclaredImport(PluginRefused):
    """The code imports a module of Sterling other than the plugin API."""

    code = "plugin.undeclared-import"
