"""Keys and passwords in text that a run records: they are left out, and :data:`MARK` stands in their place."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from launcher.config.choice import Choice

MARK = "***"

_NAME = r"[\w.-]*(?:password|passwd|passphrase|secret|token|credentials?|(?:api|access|private|secret)[_-]?key|auth)"
_HARMLESS = r"(?!['\"]?(?:\d{1,6}|null|none|true|false|\*{3}|)['\"]?(?:[\s,;\]})]|$))(?!['\"]?\$)"
_ASSIGNED = re.compile(rf"(?i)\b({_NAME}['\"]?\s*[=:]\s*){_HARMLESS}('[^'\n]*'|\"[^\"\n]*\"|[^\s'\",;&\]}})]+)")
_QUOTED = re.compile(rf"(?i)\b({_NAME}['\"]?\s*[=:]\s*){_HARMLESS}('[^'\n]{{4,}}'|\"[^\"\n]{{4,}}\")")
_UNQUOTED = re.compile(rf"(?im)^([+-]\s*(?:export\s+)?{_NAME}\s*[=:]\s*){_HARMLESS}([^\s'\",;&()\[\]{{}}.]{{8,}})$")
_IN_URL = re.compile(r"(\w://)[^\s/@'\"]+@")
_KNOWN = re.compile(
    r"\b(?:gh[opsu]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|hf_\w{16,}|sk-[\w-]{16,}|xox[abp]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
)
"""Formats of GitHub, GitLab, Hugging Face, OpenAI, Slack and AWS, and JSON web tokens."""


def redact(text: str) -> str:
    """Return text without what its name or its format says is secret, such as ``token=...`` and passwords in URLs."""
    return _KNOWN.sub(MARK, _IN_URL.sub(rf"\1{MARK}@", _ASSIGNED.sub(rf"\1{MARK}", text)))


def redact_code(text: str) -> str:
    """Return source or its differences without secrets: of values only literals and lines of settings are left out.

    ``token = tokens[0]`` is code, and stays.
    """
    for pattern in (_QUOTED, _UNQUOTED):
        text = pattern.sub(rf"\1{MARK}", text)
    return _KNOWN.sub(MARK, _IN_URL.sub(rf"\1{MARK}@", text))


def without_secrets(tracker: Choice) -> Choice:
    """Return the settings of a tracker with its texts redacted: they are recorded, and sent to Weights & Biases."""
    changed: dict[str, Any] = {}
    for name, value in tracker.to_dict().items():
        if isinstance(value, list):
            public: Any = [redact(item) if isinstance(item, str) else item for item in value]
        else:
            public = redact(value) if isinstance(value, str) else value
        if public != value:
            changed[name] = public
    return dataclasses.replace(tracker, **changed)
