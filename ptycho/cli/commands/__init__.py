"""The subcommands of `ptycho`, one module each, found by their names (a leading underscore hides a module).

A module has `SUMMARY`, one line for the list of commands; `add_arguments(parser)`; and `run(options)`, which does
the work, reports through `logging`, raises from `ptycho.errors` and returns the exit status. It imports nothing
heavy at its top, so that help and complaints come at once.
"""
