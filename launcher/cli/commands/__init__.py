"""The commands of ``sgp``, a file each.

The command ``sgp NAME`` is the function ``NAME`` in ``NAME.py`` here: its parameters are the command's arguments and
options, its docstring the help. Nothing else is to be edited for a new command. A file is imported when its command is
called or its help is listed, so it imports what is heavy (torch, numpy, hydra) inside its functions.
"""
