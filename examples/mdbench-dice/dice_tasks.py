"""A task of the family that has a name: a fair die and one that likes its last side."""

from dice import Dice


def two_dice() -> Dice:
    """The task."""
    return Dice("two_dice", [[1 / 3, 1 / 3, 1 / 3], [0.2, 0.2, 0.6]], lengths=(8, 32))
