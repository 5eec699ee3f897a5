"""HTML pages from the templates."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import jinja2


def render_page(template: str, **values: Any) -> str:
    """A template of ``templates/`` with its values, and mdbench's version; everything is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mdbench"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(version=version("mdbench"), **values)
