"""`pwflow completion`: what makes a shell complete the commands and options of pwflow."""

from __future__ import annotations

import click

__all__ = ["COMMANDS"]

_VARIABLE = "_PWFLOW_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    \b
    bash:  echo 'eval "$(pwflow completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(pwflow completion zsh)"' >> ~/.zshrc
    fish:  pwflow completion fish > ~/.config/fish/completions/pwflow.fish
    """  # noqa: D301 - \b keeps the lines of a paragraph apart
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above
    click.echo(kind(context.find_root().command, {}, "pwflow", _VARIABLE).source())


COMMANDS = (completion,)
