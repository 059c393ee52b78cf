"""Drawn people: posed in 3-D, dressed, projected and painted with numpy alone.

Bodies live in a frame of their own (x the person's left, y up, z forward; unit: body height), are
turned by a view and projected straight onto the picture. Every part is a union of tapered
capsules, painted from far to near, so front, back and side differ as they do in life: face, shirt
front, rucksack, hair and feet show or hide by depth alone.
"""

import colorsys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kdpose.skeletons.known import CROWDPOSE

Array = NDArray[Any]
_Points = dict[str, Array]
_Limits = Sequence[tuple[float, float]]

# Joint angles in degrees, (low, high). Legs: lean of the trunk, hip flexion, hip abduction, knee
# flexion. Arms: shoulder flexion, shoulder abduction, inward twist, elbow flexion.
LEGS = {
    "stand": ((-5, 10), (-10, 15), (0, 12), (0, 15)),
    "walk": ((0, 12), (-25, 40), (0, 6), (0, 55)),
    "sit": ((-10, 20), (70, 100), (0, 25), (60, 105)),
    "bend": ((35, 80), (0, 30), (0, 15), (0, 45)),
    "sport": ((-10, 35), (-30, 95), (0, 45), (0, 120)),
}
ARMS = {
    "hang": ((-20, 25), (3, 20), (-10, 30), (0, 30)),
    "swing": ((-45, 50), (3, 20), (-10, 30), (10, 90)),
    "reach": ((60, 170), (0, 50), (-30, 30), (0, 60)),
    "fold": ((0, 45), (5, 40), (20, 70), (60, 135)),
    "spread": ((-20, 60), (40, 110), (-30, 45), (0, 110)),
}
# Bone lengths in body heights, before each person's own factors.
BONES = {
    "trunk": 0.29, "neck": 0.02, "head": 0.175, "shoulder": 0.105, "hip": 0.058, "arm": 0.165,
    "forearm": 0.145, "hand": 0.055, "thigh": 0.245, "shank": 0.235, "foot": 0.09,
}  # fmt: skip
_CHAINS = ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "wrist", "hand")
_DOWN = np.array([0.0, -1.0, 0.0])
_TONES = np.array([[72, 46, 34], [236, 196, 168]])  # darkest and lightest skin


class Body(NamedTuple):
    """A posed body: ``points`` by name (joints, hands, toes, pelvis), frames of trunk and head."""

    points: _Points
    trunk: Array
    head: Array


class Cloth(NamedTuple):
    """Colours 0-255 and a pattern: 0 plain, 1 rings, 2 stripes, 3 checks; period in pixels."""

    base: Array
    other: Array
    pattern: int = 0
    period: float = 8.0


class Part(NamedTuple):
    """A union of capsules with ends ``(n, 2, 2)`` and radii ``(n, 2)``; more depth is nearer.

    From the share ``cut`` of the first capsule's length on, ``below`` replaces ``cloth``.
    """

    depth: float
    ends: Array
    radii: Array
    cloth: Cloth
    below: Cloth | None = None
    cut: float = 1.0


class Figure(NamedTuple):
    """A person on the picture: joints ``(14, 2)`` and parts, far ones first, in pixels."""

    joints: Array
    parts: list[Part]

    def moved(self, offset: Array) -> "Figure":
        """The same figure shifted by (x, y) pixels."""
        parts = [part._replace(ends=part.ends + offset) for part in self.parts]
        return Figure(self.joints + offset, parts)

    def bounds(self) -> Array:
        """The box x1, y1, x2, y2 around all parts."""
        low = [(part.ends - part.radii[..., None]).min((0, 1)) for part in self.parts]
        high = [(part.ends + part.radii[..., None]).max((0, 1)) for part in self.parts]
        return np.concatenate((np.min(low, 0), np.max(high, 0)))


def _turn(axis: int, degrees: float) -> Array:
    """Rotation matrix about x, y or z (0, 1, 2)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def pose_body(rng: Generator) -> Body:
    """Draw a posture within ``LEGS`` and ``ARMS``; forward kinematics from the pelvis at 0."""
    bone = {name: length * rng.uniform(0.92, 1.08) for name, length in BONES.items()}
    bone["head"] *= rng.choice([1.0, 1.25], p=[0.85, 0.15])  # children have larger heads
    lean, *leg = LEGS[rng.choice(list(LEGS), p=[0.42, 0.34, 0.08, 0.06, 0.1])]
    tilt = rng.uniform(*lean)
    trunk = _turn(1, rng.normal(0, 8)) @ _turn(0, tilt) @ _turn(2, rng.normal(0, 4))
    head = trunk @ _turn(1, rng.normal(0, 15)) @ _turn(0, rng.normal(0, 8) - tilt / 3)
    points = {"pelvis": np.zeros(3), "neck": -trunk @ _DOWN * bone["trunk"]}
    points["head"] = points["neck"] - head @ _DOWN * bone["head"]
    for side, sign in (("left", 1), ("right", -1)):
        arm = ARMS[rng.choice(list(ARMS), p=[0.35, 0.25, 0.15, 0.1, 0.15])]
        steps = _pose_leg(rng, bone, leg, sign)
        steps += [trunk @ step for step in _pose_arm(rng, bone, arm, sign)]
        steps[4] += points["neck"]
        ends = np.concatenate((np.cumsum(steps[:4], 0), np.cumsum(steps[4:], 0)))
        points |= {f"{side}_{name}": end for name, end in zip(_CHAINS, ends, strict=True)}
    return Body(points, trunk, head)


def _pose_leg(rng: Generator, bone: dict[str, float], limits: _Limits, sign: int) -> list[Array]:
    """Steps pelvis - hip - knee - ankle - toe, ``(3,)`` each."""
    flex, spread, bend = (rng.uniform(*limit) for limit in limits)
    thigh = _turn(2, sign * spread) @ _turn(0, -flex)
    shank = thigh @ _turn(0, bend)
    hip, toe = np.array([sign * bone["hip"], 0.0, 0.0]), np.array([0.0, 0.0, bone["foot"]])
    legs = [thigh @ _DOWN * bone["thigh"], shank @ _DOWN * bone["shank"]]
    return [hip, *legs, shank @ _turn(0, 20) @ toe]


def _pose_arm(rng: Generator, bone: dict[str, float], limits: _Limits, sign: int) -> list[Array]:
    """Steps neck - shoulder - elbow - wrist - hand in the trunk's frame, ``(3,)`` each."""
    flex, spread, twist, bend = (rng.uniform(*limit) for limit in limits)
    upper = _turn(2, sign * spread) @ _turn(0, -flex) @ _turn(1, -sign * twist)
    fore = upper @ _turn(0, -bend) @ _DOWN
    shoulder = np.array([sign * bone["shoulder"], -bone["neck"], 0.0])
    return [shoulder, upper @ _DOWN * bone["arm"], fore * bone["forearm"], fore * bone["hand"]]


def draw_colour(rng: Generator) -> Array:
    """A colour for clothes and surroundings alike, so that colour alone tells nothing."""
    hue, saturation, value = rng.random(), rng.beta(1.2, 1.8), rng.uniform(0.12, 0.97)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255


def draw_cloth(rng: Generator, height: float) -> Cloth:
    """Two colours and, on every other cloth, a pattern fit for a body of ``height`` pixels."""
    pattern = int(rng.choice(4, p=[0.7, 0.12, 0.1, 0.08]))
    period = max(4.0, height * rng.uniform(0.03, 0.09))
    return Cloth(draw_colour(rng), draw_colour(rng), pattern, period)


def _part(lift: float, bones: Sequence[tuple[Array, Array, float, float]], cloth: Cloth) -> Part:
    """A part from 3-D ends and radii; ``lift`` settles ties in depth."""
    ends, radii = (np.array([bone[i : i + 2] for bone in bones]) for i in (0, 2))
    return Part(ends[..., 2].mean() + lift, ends[..., :2] * [1, -1], radii, cloth)


def _limbs(rng: Generator, at: _Points, shirt: Cloth, skin: Cloth, height: float) -> list[Part]:
    """Arms with hands and sleeves, legs with shoes and trousers."""
    trousers, leather = draw_cloth(rng, height), draw_colour(rng)
    sleeve, leg = rng.choice([0.0, 0.6, 1.6, 2.0], 2, p=[0.08, 0.37, 0.1, 0.45])
    leg = max(leg, 0.6)
    parts = []
    for side in ("left", "right"):
        hip, knee, ankle, toe, shoulder, elbow, wrist, hand = (at[f"{side}_{j}"] for j in _CHAINS)
        rows = (
            (0.0, (shoulder, elbow, 0.034, 0.027), shirt, sleeve),
            (0.002, (elbow, wrist, 0.027, 0.019), shirt, sleeve - 1),
            (0.001, (wrist, hand, 0.02, 0.017), skin, 0.0),
            (-0.04, (hip, knee, 0.055, 0.038), trousers, leg),
            (-0.041, (knee, ankle, 0.038, 0.024), trousers, leg - 1),
            (-0.039, (ankle, toe, 0.026, 0.019), Cloth(leather, leather), np.inf),
        )
        for lift, bone, cloth, cut in rows:
            parts.append(_part(lift, [bone], cloth)._replace(below=skin, cut=cut))
    return parts


def _trunk(rng: Generator, at: _Points, frame: Array, shirt: Cloth, height: float) -> list[Part]:
    """The trunk, on most a shirt front (tie, zip, print) and on some a rucksack."""
    chest, waist, forward = 0.75 * at["neck"], 0.25 * at["neck"], frame[:, 2]
    bones = [(at["neck"], at["pelvis"], 0.05, 0.065)]
    bones += [(at["left_shoulder"], at["right_shoulder"], 0.04, 0.04)]
    bones += [(at[f"{s}_shoulder"], at[f"{s}_hip"], 0.042, 0.052) for s in ("left", "right")]
    parts = [_part(0.0, bones, shirt)]
    if rng.random() < 0.7:
        low = waist if rng.random() < 0.6 else 0.55 * at["neck"]
        width = rng.uniform(0.012, 0.035)
        bone = (chest + 0.055 * forward, low + 0.055 * forward, width, width)
        parts.append(_part(0.02, [bone], draw_cloth(rng, height)))
    if rng.random() < 0.2:
        bone = (chest - 0.09 * forward, waist - 0.08 * forward, 0.065, 0.075)
        parts.append(_part(-0.02, [bone], draw_cloth(rng, height)))
    return parts


def _head(rng: Generator, at: _Points, frame: Array, skin: Cloth) -> list[Part]:
    """Neck, hair or hat, face with eyes; the face is hidden behind the hair from the back."""
    left, up, forward = frame.T
    r = 0.36 * float(np.linalg.norm(at["head"] - at["neck"]))
    centre = at["neck"] + 0.62 * (at["head"] - at["neck"])
    tones = np.array([[25, 20, 18], [70, 45, 28], [120, 80, 45], [190, 150, 90], [150, 150, 150]])
    shade = rng.choice(tones) if rng.random() < 0.75 else draw_colour(rng)
    hair, dark = Cloth(shade, shade), Cloth(skin.base * 0.3, skin.base * 0.3)
    face, brow = centre + 0.45 * r * forward, centre + r * (0.85 * forward + 0.08 * up)
    eyes = [brow - 0.3 * r * left, brow + 0.3 * r * left]
    parts = [
        _part(-0.01, [(at["neck"], centre, 0.03, 0.03)], skin),
        _part(0.01, [(centre + 0.25 * r * up, centre - 0.2 * r * up, r, 0.85 * r)], hair),
        _part(0.015, [(face, face - 0.35 * r * up, 0.74 * r, 0.62 * r)], skin),
        _part(0.015, [(eye, eye, 0.13 * r, 0.13 * r) for eye in eyes], dark),
    ]
    if rng.random() < 0.4:
        bone = (centre - 0.3 * r * forward, centre - r * (0.3 * forward + 1.5 * up), r, 0.8 * r)
        parts.append(_part(-0.02, [bone], hair))
    return parts


def draw_figure(rng: Generator, height: float) -> Figure:
    """Dress and project a random body whose lowest joint rests on (0, 0).

    Args:
        rng: source of posture, view and clothes.
        height: of the body when it stands, pixels.
    """
    body = pose_body(rng)
    facing = rng.choice([0, 180, 90, -90], p=[0.5, 0.26, 0.12, 0.12]) + rng.normal(0, 22)
    tumble = rng.uniform(-180, 180) if rng.random() < 0.03 else rng.normal(0, 6)
    view = _turn(2, tumble) @ _turn(0, rng.normal(6, 7)) @ _turn(1, facing)
    at = {name: view @ point for name, point in body.points.items()}
    shirt, tone = draw_cloth(rng, height), _TONES[0] + rng.random() * (_TONES[1] - _TONES[0])
    skin, girth = Cloth(tone, tone), rng.uniform(0.85, 1.25)
    parts = _limbs(rng, at, shirt, skin, height) + _trunk(rng, at, view @ body.trunk, shirt, height)
    parts = [part._replace(radii=part.radii * girth) for part in parts]
    parts = sorted(parts + _head(rng, at, view @ body.head, skin), key=lambda part: part.depth)
    parts = [p._replace(ends=p.ends * height, radii=p.radii * height) for p in parts]
    joints = np.array([at[name][:2] for name in CROWDPOSE.joints]) * [height, -height]
    ground = np.array([joints[:, 0].mean(), joints[:, 1].max()])
    return Figure(joints, parts).moved(-ground)


def _weave(part: Part, x: Array, y: Array) -> Array:
    """Colours ``(h, w, 3)`` of a part: its cloth's pattern laid along the first capsule."""
    start, end = part.ends[0].astype(np.float32)
    cloth = part.cloth
    length = max(float(np.hypot(*(end - start))), 1e-3)
    ux, uy = ((end - start) / length).tolist() if length > 0.5 else (0.0, 1.0)
    along = (x - start[0]) * ux + (y - start[1]) * uy
    across = (y - start[1]) * ux - (x - start[0]) * uy
    which = np.zeros(along.shape, np.intp)
    if cloth.pattern in (1, 3):
        which ^= along % cloth.period < cloth.period / 2
    if cloth.pattern in (2, 3):
        which ^= across % cloth.period < cloth.period / 2
    if part.below is not None:
        which[along > part.cut * length] = 2
    colours = [cloth.base, cloth.other, (part.below or cloth).base]
    return np.array(colours, np.float32)[which]


def paint(canvas: Array, part: Part, light: Array) -> tuple[tuple[slice, slice], Array]:
    """Paint a part over a picture, edges smoothed and rounded by light.

    Args:
        canvas: ``(H, W, 3)`` float, 0-255; changed in place.
        part: what to paint.
        light: ``(2,)``, the direction that light comes from, in (x, y).

    Returns:
        The window of the picture that was touched, and which of its pixels the part covers.
    """
    reach = part.radii[..., None] + 1
    low = np.floor((part.ends - reach).min((0, 1))).astype(int).clip(0)
    high = np.ceil((part.ends + reach).max((0, 1))).astype(int).clip(-1)
    window = slice(low[1], high[1] + 1), slice(low[0], high[0] + 1)
    area = canvas[window]
    if min(area.shape[:2]) < 2:  # beside the picture
        return window, np.zeros(area.shape[:2], bool)
    x = np.arange(low[0], low[0] + area.shape[1], dtype=np.float32)[None]
    y = np.arange(low[1], low[1] + area.shape[0], dtype=np.float32)[:, None]
    distance = np.full(area.shape[:2], np.inf, np.float32)
    for ((ax, ay), (bx, by)), (ra, rb) in zip(part.ends.tolist(), part.radii.tolist(), strict=True):
        dx, dy = bx - ax, by - ay
        share = (x - ax) * dx + (y - ay) * dy
        share = (share / max(dx * dx + dy * dy, 1e-3)).clip(0, 1)
        gap = np.hypot(x - ax - share * dx, y - ay - share * dy) - (ra + (rb - ra) * share)
        distance = np.minimum(distance, gap)
    down, right = np.gradient(distance)
    rim = (1 + distance / float(part.radii.max())).clip(0, 1)  # 0 on the ridge, 1 at the outline
    glow = 1 - 0.1 * rim + 0.25 * rim * (right * light[0] + down * light[1])
    colour = (_weave(part, x, y) * glow[..., None]).clip(0, 255)
    area += (0.5 - distance).clip(0, 1)[..., None] * (colour - area)
    return window, distance < 0
