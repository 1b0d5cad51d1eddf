"""Finds the packages. ``conf/`` is installed as ``launcher.conf``, so that it does not hide a user's own ``conf``."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["launcher*", "sgp_core*"]), "launcher.conf"])
