"""``forebay completion``: what a shell has to know to complete our command lines."""

from __future__ import annotations

import click

from forebay.cli import options

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog=options.examples(
        "forebay completion bash > ~/.local/share/bash-completion/completions/forebay",
        "forebay completion zsh > ~/.zfunc/_forebay",
        "forebay completion fish > ~/.config/fish/completions/forebay.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(*, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options and their values.

    Put it where the shell looks for such scripts, as in the examples, and open a new shell.
    """
    from click.shell_completion import get_completion_class

    from forebay.cli.output import say
    from forebay.cli.program import program

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(shell)
    script = kind(program, {}, "forebay", "_FOREBAY_COMPLETE")
    say(script.source_template % script.source_vars())
