"""Users' own parts: files, modules and installed packages whose code registers models, algorithms and the like.

A plug-in is Python code that is imported before any name is looked up. What it registers behaves like the parts of
this package: see :meth:`sgp_core.registry.Registry.register`. Loading imports nothing but the plug-in's own code.
"""

from sgp_core.plugins.load import (
    load_plugins,
    load_recorded_plugins,
    loaded_plugins,
    registrations_of,
    unload_plugin,
)
from sgp_core.plugins.plugin import Plugin, PluginKind, changed_sources, source_files, source_hash

__all__ = [
    "Plugin",
    "PluginKind",
    "changed_sources",
    "load_plugins",
    "load_recorded_plugins",
    "loaded_plugins",
    "registrations_of",
    "source_files",
    "source_hash",
    "unload_plugin",
]
