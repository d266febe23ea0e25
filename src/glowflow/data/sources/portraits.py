"""Portraits with exact attributes, composed from the avataaars drawings."""

import io
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import py_avataaars as drawings
import resvg_py
from PIL import Image

PIXELS = 64
SUPERSAMPLING = 2
FRAME = (36, 16, 192)
"""Left, top and side of the square of the drawing that is shown: the head fills it."""
SEED = 2018

ATTRIBUTES = (
    "Smiling",
    "Eyeglasses",
    "Sunglasses",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Gray_Hair",
    "Red_Hair",
    "Long_Hair",
    "Beard",
    "Mustache",
    "Hat",
    "Young",
    "Pale_Skin",
    "Dark_Skin",
)

# What a portrait is chosen from, with the weight of each choice.
SKINS = {"PALE": 20, "LIGHT": 30, "BROWN": 20, "DARK_BROWN": 15, "BLACK": 15}
HAIR_COLOURS = {"BLACK": 25, "BROWN": 25, "BLONDE": 20, "SILVER_GRAY": 17, "RED": 13}
SHORT_HAIR = (
    "SHORT_HAIR_SHORT_FLAT",
    "SHORT_HAIR_SHORT_ROUND",
    "SHORT_HAIR_SHORT_WAVED",
    "SHORT_HAIR_THE_CAESAR",
)
LONG_HAIR = (
    "LONG_HAIR_BOB",
    "LONG_HAIR_STRAIGHT",
    "LONG_HAIR_STRAIGHT2",
    "LONG_HAIR_STRAIGHT_STRAND",
)
HATS = ("WINTER_HAT1", "WINTER_HAT2", "WINTER_HAT3")
TOPS = dict.fromkeys(SHORT_HAIR, 11) | dict.fromkeys(LONG_HAIR, 10) | dict.fromkeys(HATS, 5)
HAT_COLOURS = {"BLUE_03": 1, "PASTEL_RED": 1, "GRAY_02": 1}
SMILES = ("SMILE", "TWINKLE")
MOUTHS = {"SMILE": 30, "TWINKLE": 20, "SERIOUS": 25, "SAD": 25}
EYES = {"DEFAULT": 60, "SQUINT": 20, "SURPRISED": 20}
EYEBROWS = {"DEFAULT_NATURAL": 50, "FLAT_NATURAL": 25, "RAISED_EXCITED_NATURAL": 25}
EYEGLASSES = ("PRESCRIPTION_02", "ROUND")
SUNGLASSES = ("SUNGLASSES", "WAYFARERS")
ACCESSORIES = {"DEFAULT": 62, "PRESCRIPTION_02": 11, "ROUND": 11, "SUNGLASSES": 8, "WAYFARERS": 8}
BEARDS = ("BEARD_LIGHT", "BEARD_MEDIUM")
MUSTACHES = ("MOUSTACHE_FANCY", "MOUSTACHE_MAGNUM")
FACIAL_HAIR = {
    "DEFAULT": 68,
    "BEARD_LIGHT": 10,
    "BEARD_MEDIUM": 10,
    "MOUSTACHE_FANCY": 6,
    "MOUSTACHE_MAGNUM": 6,
}
CLOTHES_COLOURS = {"BLUE_03": 1, "GRAY_02": 1, "PASTEL_GREEN": 1, "PASTEL_RED": 1, "HEATHER": 1}
BACKGROUNDS = {"#c9d9e8": 1, "#e8dccb": 1, "#d5e3d0": 1, "#ddd3e4": 1, "#d9d9d6": 1}


@dataclass(frozen=True)
class Portrait:
    """The choices that make one portrait, by the names of the drawings."""

    skin: str
    hair_colour: str
    top: str
    hat_colour: str
    mouth: str
    eyes: str
    eyebrows: str
    accessories: str
    facial_hair: str
    clothes_colour: str
    background: str

    def attributes(self) -> dict[str, bool]:
        """What is true of the portrait, by construction.

        A hat hides all hair, so that no hair colour and no Long_Hair is true under one; facial hair
        has the colour of the hair. Mustache is one without a beard. Young is no gray hair to be
        seen, on the head or in the face.
        """
        hat = self.top in HATS
        facial = self.facial_hair != "DEFAULT"
        colour = "" if hat else self.hair_colour
        return {
            "Smiling": self.mouth in SMILES,
            "Eyeglasses": self.accessories in EYEGLASSES,
            "Sunglasses": self.accessories in SUNGLASSES,
            "Black_Hair": colour == "BLACK",
            "Blond_Hair": colour == "BLONDE",
            "Brown_Hair": colour == "BROWN",
            "Gray_Hair": colour == "SILVER_GRAY",
            "Red_Hair": colour == "RED",
            "Long_Hair": self.top in LONG_HAIR,
            "Beard": self.facial_hair in BEARDS,
            "Mustache": self.facial_hair in MUSTACHES,
            "Hat": hat,
            "Young": self.hair_colour != "SILVER_GRAY" or (hat and not facial),
            "Pale_Skin": self.skin == "PALE",
            "Dark_Skin": self.skin in ("DARK_BROWN", "BLACK"),
        }


def choose_portraits(count: int, seed: int = SEED) -> list[Portrait]:
    """Draw the choices of `count` portraits, independently of each other; same seed, same ones."""
    random = np.random.default_rng(seed)

    def choose(weights: dict[str, int]) -> list[str]:
        share = np.array(list(weights.values()), dtype=float)
        picked = random.choice(len(weights), size=count, p=share / share.sum())
        names = list(weights)
        return [names[i] for i in picked]

    columns = map(
        choose,
        (
            SKINS,
            HAIR_COLOURS,
            TOPS,
            HAT_COLOURS,
            MOUTHS,
            EYES,
            EYEBROWS,
            ACCESSORIES,
            FACIAL_HAIR,
            CLOTHES_COLOURS,
            BACKGROUNDS,
        ),
    )
    return [Portrait(*row) for row in zip(*columns, strict=True)]


def paint(portrait: Portrait) -> Image.Image:
    """The portrait as a 64x64 RGB image: its layers over each other, from the back to the front."""
    side = PIXELS * SUPERSAMPLING
    image = Image.new("RGBA", (side, side), portrait.background)
    hair = portrait.hair_colour
    for drawn in (
        layer("main-body", skin_color=portrait.skin),
        layer("clothes", clothe_color=portrait.clothes_colour),
        layer("face-mouth", mouth_type=portrait.mouth),
        layer("face-nose"),
        layer("face-eyes", eye_type=portrait.eyes),
        layer("face-eyebrow", eyebrow_type=portrait.eyebrows),
        layer("top", top_type=portrait.top, hair_color=hair, hat_color=portrait.hat_colour)
        if portrait.top not in HATS
        else layer("top", top_type=portrait.top, hat_color=portrait.hat_colour),
        layer("top-facial-hair", facial_hair_type=portrait.facial_hair, facial_hair_color=hair),
        layer("top-accessories", accessories_type=portrait.accessories),
    ):
        image.alpha_composite(drawn)
    return image.convert("RGB").reduce(SUPERSAMPLING)


DEFAULTS: dict[str, Any] = {
    "style": drawings.AvatarStyle.TRANSPARENT,
    "skin_color": drawings.SkinColor.LIGHT,
    "hair_color": drawings.HairColor.BROWN,
    "facial_hair_type": drawings.FacialHairType.DEFAULT,
    "facial_hair_color": drawings.HairColor.BROWN,
    "top_type": drawings.TopType.NO_HAIR,
    "hat_color": drawings.Color.BLACK,
    "mouth_type": drawings.MouthType.SERIOUS,
    "eye_type": drawings.EyesType.DEFAULT,
    "nose_type": drawings.NoseType.DEFAULT,
    "eyebrow_type": drawings.EyebrowType.DEFAULT_NATURAL,
    "accessories_type": drawings.AccessoriesType.DEFAULT,
    "clothe_type": drawings.ClotheType.SHIRT_CREW_NECK,
    "clothe_color": drawings.Color.HEATHER,
    "minify": False,
    "simplify": False,
}


@cache
def layer(part: str, **choices: str) -> Image.Image:
    """One part of a drawing alone, over transparency: rasterised once, with smooth edges."""
    options = dict(DEFAULTS)
    for name, choice in choices.items():
        options[name] = type(DEFAULTS[name])[choice]
    svg = ElementTree.fromstring(drawings.PyAvataaar(**options).render_svg())
    _keep(svg, f"py-avataaars-{part}")
    left, top, side = FRAME
    svg.set("viewBox", f"{left} {top} {side} {side}")
    svg.set("width", str(PIXELS * SUPERSAMPLING))
    svg.set("height", str(PIXELS * SUPERSAMPLING))
    text = ElementTree.tostring(svg, encoding="unicode")
    png = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def _keep(element: ElementTree.Element, prefix: str) -> bool:
    """Remove all that is neither in the group `prefix…` nor a definition; tell what is left."""
    kept = False
    for child in list(element):
        tag = child.tag.rpartition("}")[2]
        wanted = tag == "g" and child.get("id", "").startswith(prefix)
        if wanted or (tag == "g" and _keep(child, prefix)):
            kept = True
        elif tag not in ("defs", "mask"):
            element.remove(child)
    return kept
