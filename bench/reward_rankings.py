"""Rankings for the reward benchmark, made from a seed: K = 4, prompts of 64 to 256 tokens, kind words preferred."""

from __future__ import annotations

import math
import random
from typing import Any

TOPICS = [
    "the harbour",
    "a school play",
    "the night train",
    "an old clock",
    "the market",
    "a garden",
    "the lighthouse",
    "a chess game",
]
DETAILS = [
    "It began early in the morning, when the streets were still empty and the shops had their shutters down.",
    "Some of those who were there remember the colour of the sky, others only the noise.",
    "A report of it appeared in the local paper, between the weather and the results of a bicycle race.",
    "Nobody can say how many people came, but the benches were full and some stood by the wall.",
    "The second part took longer than the first, since one of the doors was locked and the key was elsewhere.",
    "Afterwards there was tea, and a list went round on which everybody wrote a name and an address.",
    "Two years later the same place looked different, with a new roof and a row of young trees.",
]
KIND = ["lovely", "wonderful", "warm", "bright", "cheerful", "generous", "excellent", "delightful", "kind", "splendid"]
UNKIND = ["awful", "gloomy", "cold", "bitter", "dreadful", "stingy", "terrible", "dull", "cruel", "miserable"]
PLAIN = ["long", "wooden", "northern", "early", "narrow", "common", "round", "usual", "recent", "written"]


def make_rankings(count: int, seed: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Rankings by how kind a completion's words are, with Plackett-Luce noise."""
    rankings = []
    for number in range(first, first + count):
        draw = random.Random(seed * 1_000_003 + number)
        details = draw.choices(DETAILS, k=draw.randint(2, 8))
        prompt = f"Here is what is known about {draw.choice(TOPICS)}, case {number}. {' '.join(details)} Describe it."
        texts, keys = [], []
        for _ in range(4):
            kind = draw.randint(0, 4)
            words = draw.sample(KIND, kind) + draw.sample(UNKIND, 4 - kind) + draw.sample(PLAIN, draw.randint(0, 6))
            draw.shuffle(words)
            texts.append("It was " + ", ".join(words[:-1]) + f" and {words[-1]}, as far as anybody could tell.")
            keys.append(2.0 * kind - math.log(-math.log(draw.random())))
        order = sorted(range(4), key=lambda place: -keys[place])
        rankings.append(
            {
                "id": str(number),
                "prompt": [{"role": "user", "content": prompt}],
                "completions": [{"id": str(place), "text": text} for place, text in enumerate(texts)],
                "ranks": [order.index(place) + 1 for place in range(4)],
            }
        )
    return rankings
