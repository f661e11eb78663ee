"""Checkers for the chapters on choosing tasks, incomplete data, and running it all."""

from __future__ import annotations
