"""The settings that ship with the launcher, one folder for each choice."""
