"""The functions of `import ptycho`, one module per stage of the work; thin over the rooms that do it."""
