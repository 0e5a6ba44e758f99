"""How hard the stand-in is: every constant that calibration may turn."""

import dataclasses

__all__ = ["DEFAULT_DIFFICULTY", "Difficulty"]


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """Constants that set how hard it is to tell the rendered identities apart.

    Raising any of them, except `colour_spread`, `pattern_rate` and `body_spread`, makes the
    data set harder. All are dimensionless; rates are probabilities in [0, 1].

    Attributes:
        commonness: exponent on the probability of each garment, colour and hair style; 1 gives
            the everyday distribution, more makes dark trousers and plain tops still commoner.
        colour_spread: how far a garment's colour strays from its palette entry (fraction of the
            range, one standard deviation); 0 leaves only the palette.
        pattern_rate: probability that a top has a pattern, a print or blocks of colour.
        body_spread: scale of the differences of stature, build and proportions; 1 is natural.
        camera_colour: strength of each camera's colour cast, white balance, saturation and
            tone curve; 0 gives all cameras the same colours.
        camera_blur: strength of each camera's loss of detail: lens blur and few sensor lines.
        camera_noise: scale of the cameras' sensor noise.
        viewpoint_bias: how strongly a camera prefers one orientation; 0 is uniform.
        turn_rate: probability that an image's orientation departs from that of its track.
        light_spread: scale of the changes of brightness, shadow and light direction.
        misalignment: scale of the detector's errors of position and size.
        occlusion_rate: probability that something stands before the pedestrian.
        crowd_rate: probability that another pedestrian is seen behind.
    """

    commonness: float = 1.0
    colour_spread: float = 0.03
    pattern_rate: float = 0.35
    body_spread: float = 1.0
    camera_colour: float = 0.6
    camera_blur: float = 1.0
    camera_noise: float = 1.0
    viewpoint_bias: float = 1.0
    turn_rate: float = 0.35
    light_spread: float = 1.0
    misalignment: float = 1.0
    occlusion_rate: float = 0.15
    crowd_rate: float = 0.15


DEFAULT_DIFFICULTY = Difficulty()
