"""SVG into PNG without a browser and without a system library: for slides, PDF and mail.

By resvg, in a wheel for x86-64 and arm64. The font is the one that comes with matplotlib, so that a container without
any font shows words, too, and the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

from labkit.errors import InputError


def png_of(svg: str, *, zoom: float = 2.0) -> bytes:
    """The picture as PNG; `zoom` 2 is sharp on a projector."""
    import matplotlib
    import resvg_py

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=zoom,
            skip_system_fonts=True,
            font_files=[str(fonts / "DejaVuSans.ttf"), str(fonts / "DejaVuSans-Bold.ttf")],
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
        )
    )


def save_picture(svg: str, path: str | Path, *, zoom: float = 2.0) -> Path:
    """Write a picture as SVG or PNG, as the path's ending says."""
    target = Path(path)
    if target.suffix not in (".svg", ".png"):
        raise InputError(
            f"A map cannot be saved as {target.suffix or 'a file without an ending'}.",
            next_step="End the name with .svg or .png.",
            path=str(path),
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(svg.encode() if target.suffix == ".svg" else png_of(svg, zoom=zoom))
    return target
