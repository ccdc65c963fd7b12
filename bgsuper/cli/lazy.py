"""A command group whose commands are imported when they are asked for, so that ``bgsuper --help`` comes at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click


class LazyGroup(click.Group):
    """A subclass says where its commands are."""

    package: str  #: that has their modules
    modules: Mapping[str, str]  #: by command, in the order of the help; a module defines the command under its own name

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self.modules.get(cmd_name)
        if module is None:
            return None
        command = getattr(import_module(f"{self.package}.{module}"), module)
        assert isinstance(command, click.Command)
        return command
