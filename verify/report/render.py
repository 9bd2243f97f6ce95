"""The templates of this folder, filled in: whatever a name holds, it cannot break the page that it stands on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from bigstep.text import markdown


def markdown_page(template: str, facts: Mapping[str, Any]) -> str:
    """Fill in a Markdown template."""

    def escape(value: object) -> object:
        return markdown(value, most=len(value)) if isinstance(value, str) else value  # numbers pass through

    # Autoescape would write HTML entities; `finalize` escapes every printed value for Markdown instead.
    return _environment(autoescape=False, finalize=escape).get_template(template).render(facts)


def html_page(template: str, facts: Mapping[str, Any]) -> str:
    """Fill in an HTML template; what it does not mark as safe is escaped."""
    return _environment(autoescape=True).get_template(template).render(facts)


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(  # noqa: S701 - autoescape is among the options, and HTML has it
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
