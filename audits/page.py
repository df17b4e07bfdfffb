"""One self-contained HTML page from a template of this package: no script, no external file.

The content policy allows nothing but the one style sheet in the page, by its hash. Every value passes Jinja's
autoescape; only our own style sheets are inserted as they are.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Mapping
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["number", "page", "scientific"]


def page(
    template: str,
    *,
    filters: Mapping[str, Callable[..., object]],
    sheets: tuple[str, ...] = ("report.css",),
    **values: object,
) -> str:
    """Lay a template out; the same values give the same bytes.

    Args:
        template: file in `templates`; it finds the style in `css` and the content policy in `csp`.
        filters: of the template.
        sheets: style sheets, in order.
        values: what the template names.
    """
    folder = resources.files("audits") / "templates"
    css = "".join((folder / name).read_text("utf-8") for name in sheets)
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("audits", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template).render(
        csp=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        # Our own files from the package, the one thing that must not be escaped.
        css=Markup(css),  # noqa: S704
        **values,
    )


def number(value: float) -> str:
    """A number as reports print it, with up to three decimals."""
    if not math.isfinite(value) or abs(value) >= 1e15:
        return "unbounded"
    if value == 0.0:
        return "0"
    if abs(value) < 1e-3:
        return scientific(value)
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 100.0 else f"{value:.0f}"


def scientific(value: float) -> str:
    """A small or large number as 3·10⁻⁵."""
    mantissa, exponent = f"{value:.1e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = mantissa.removesuffix(".0")
    return power if mantissa == "1" else f"{mantissa}·{power}"
