"""Packages are found, not listed; ``conf/`` ships as ``launcher.conf``, out of the way of anybody's own ``conf``."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["launcher*", "sgp_core*"]), "launcher.conf"])
