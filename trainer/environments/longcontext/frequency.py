"""Common and frequent words: RULER's aggregation tasks (arXiv 2404.06654, section 3; NVIDIA/RULER `common_words_extraction.py`,
`freq_words_extraction.py`)."""

from __future__ import annotations

import random

from recollect.errors import InvalidRequest
from trainer.environments.longcontext import words
from trainer.environments.longcontext.sample import Sample

COMMON_INTRO = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often."
)
COMMON_ASKED = "What are the {count} most common words in the above list?"
FREQUENT_INTRO = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words."
)
FREQUENT_ASKED = (
    "Do not provide any explanation. Please ignore the dots '...'. "
    "What are the three most frequently appeared words in the above coded text?"
)
NOISE_WORD = "..."
ALPHA, VOCABULARY = 2.0, 2000
_ZETA_2 = 1.6449340668482264
LEAST_WORDS = 80
"""With fewer the third and the fourth frequent word may come equally often."""


def common_words(seed: str, units: int, *, repeats: tuple[int, int] = (30, 3), num_common: int = 10) -> Sample:
    """A shuffled, numbered list of `num_common` words that come `repeats[0]` times and `units` others that come `repeats[1]` times."""
    rng = random.Random(seed)
    drawn = words.plain_words(rng, num_common + units)
    common, others = drawn[:num_common], drawn[num_common:]
    listed = common * repeats[0] + others * repeats[1]
    rng.shuffle(listed)
    context = " ".join(f"{place}. {word}" for place, word in enumerate(listed, start=1))
    return Sample(f"{COMMON_INTRO}\n{context}", COMMON_ASKED.format(count=num_common), tuple(common))


def frequent_words(seed: str, units: int) -> Sample:
    """About `units` coded words whose counts follow Zipf's law with alpha 2.0; the most frequent one is noise, the next three asked for.

    The word of rank k comes floor(units x k^-2 / zeta(2)) times, of 2,000 words.
    """
    rng = random.Random(seed)
    vocabulary = [NOISE_WORD, *words.different(words.coded_word, rng, VOCABULARY - 1)]
    counts = [int(units * rank**-ALPHA / _ZETA_2) for rank in range(1, VOCABULARY + 1)]
    text = [word for word, count in zip(vocabulary, counts, strict=True) for _ in range(count)]
    rng.shuffle(text)
    return Sample(f"{FREQUENT_INTRO}\n{' '.join(text)}", FREQUENT_ASKED, tuple(vocabulary[1:4]))


def check_distinct(units: int) -> None:
    """Raises InvalidRequest if the three most frequent of so many words are not well defined."""
    if units < LEAST_WORDS:
        raise InvalidRequest(f"the length holds {units} coded words, {LEAST_WORDS} are needed; ask for a greater one", param="length")
