"""Elastic PushSum: workers may die, be stopped or join, and training goes on."""

from sgp_core.elastic.group import Change, ElasticGroup

__all__ = ["Change", "ElasticGroup"]
