"""Checkers for the chapters on the universal model and its likelihood."""

from __future__ import annotations
