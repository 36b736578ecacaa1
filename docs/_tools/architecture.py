"""The picture of the page on architecture: how rows become a prediction, room by room.

Narrow and tall, so that its letters can be read on a phone.
"""

from __future__ import annotations

# Left, top, width and height; then the first line, and a second one or none.
INPUTS = [
    (24, 44, 272, 30, "tables, images, texts", ""),
    (312, 44, 152, 30, "texts of domains", ""),
]
ROOMS = [
    (24, 104, 272, 48, "_encoding", "numbers, codes, pixels, tokens"),
    (24, 182, 272, 48, "_training and nn", "trunk, gate, experts, distillation"),
    (24, 260, 152, 30, "fitted estimator", ""),
    (200, 260, 96, 30, "inspection", ""),
    (24, 320, 152, 48, "onnx", "graphs, compared"),
    (312, 104, 152, 186, "language", ""),
    (24, 550, 432, 48, "bundle, signing, samples", "checks before anything is predicted"),
    (24, 628, 204, 48, "running", "gate, then one expert"),
    (252, 628, 204, 48, "language", "router, then one expert"),
    (24, 706, 432, 48, "cli, batch, serving", "files, folders, clusters, requests"),
]
BUNDLE = (104, 430, 272, 48, "bundle", "manifest, graphs, sample rows")
# Corners of lines; an arrowhead stands at the end, and with True at the start as well.
LINES = [
    ([(160, 74), (160, 104)], False),
    ([(160, 152), (160, 182)], False),
    ([(94, 230), (94, 260)], False),
    ([(176, 275), (200, 275)], False),
    ([(94, 290), (94, 320)], False),
    ([(388, 74), (388, 104)], False),
    ([(94, 368), (94, 454), (104, 454)], False),
    ([(388, 290), (388, 454), (376, 454)], False),
    ([(340, 478), (340, 550)], False),
    ([(126, 598), (126, 628)], False),
    ([(354, 598), (354, 628)], False),
    ([(126, 676), (126, 706)], True),
    ([(354, 676), (354, 706)], True),
]
ABOUT = (
    "skmode encodes tables, images and texts, trains a mixture, and exports it by onnx; its "
    "language room trains a teacher, an expert for each domain and a router. Both write a bundle. "
    "skmode-deploy checks the bundle, and answers files and requests by one expert for each row."
)


def draw(colours: tuple[str, ...]) -> str:
    """Return the picture as SVG, in the colours of a theme."""
    text, line, idle, lit, on_lit, _ = colours
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 770" role="img" '
        f'aria-label="{ABOUT}" font-family="system-ui, sans-serif">',
        f"<title>{ABOUT}</title>",
    ]
    for top, height, about in (
        (8, 400, "skmode: torch, scikit-learn"),
        (500, 266, "skmode-deploy: numpy, onnxruntime"),
    ):
        parts.append(
            f'<rect x="8" y="{top}" width="464" height="{height}" rx="8" fill="none" '
            f'stroke="{line}" stroke-dasharray="4 4"/>'
        )
        # Below the frame's line, at the left, where no arrow passes.
        parts.append(_text(24, top + 24, about, text, 15, anchor="start"))
    parts += [_line(corners, both, line) for corners, both in LINES]
    parts += [_box(box, "none", line, text, round_=15) for box in INPUTS]
    parts += [_box(box, idle, line, text) for box in ROOMS]
    parts.append(_box(BUNDLE, lit, lit, on_lit))
    for row, part in enumerate(
        ("teacher", "common start", "an expert", "for each domain", "router")
    ):
        parts.append(_text(388, 158 + 24 * row, part, text, 14))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(
    box: tuple[int, int, int, int, str, str], fill: str, edge: str, text: str, round_: int = 6
) -> str:
    left, top, width, height, first, second = box
    middle = left + width // 2
    parts = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="{round_}" '
        f'fill="{fill}" stroke="{edge}"/>',
        _text(middle, top + 20, first, text, 15, weight=700 if fill != "none" else 400),
    ]
    if second:
        parts.append(_text(middle, top + 39, second, text, 14))
    return "\n".join(parts)


def _text(
    x: int, y: int, text: str, fill: str, size: int, weight: int = 400, anchor: str = "middle"
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{fill}">{text}</text>'
    )


def _line(corners: list[tuple[int, int]], both: bool, colour: str) -> str:
    path = "M" + "L".join(f"{x} {y}" for x, y in corners)
    heads = [_head(corners[-2], corners[-1], colour)]
    if both:
        heads.append(_head(corners[1], corners[0], colour))
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>' + "".join(heads)


def _head(start: tuple[int, int], end: tuple[int, int], colour: str) -> str:
    """An arrowhead; lines are level or upright."""
    (x, y), (to_x, to_y) = start, end
    along_x, along_y = (to_x > x) - (to_x < x), (to_y > y) - (to_y < y)
    back_x, back_y = to_x - 9 * along_x, to_y - 9 * along_y
    return (
        f'<path d="M{to_x} {to_y}L{back_x + 5 * along_y} {back_y + 5 * along_x}'
        f'L{back_x - 5 * along_y} {back_y - 5 * along_x}z" fill="{colour}"/>'
    )
