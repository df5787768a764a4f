"""What keys and values are made of: words, numbers, uuids, variables, coded words, each drawn from one random generator."""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Callable

from recollect.errors import InvalidRequest

# RULER draws these from the package wonderwords; the lists here are our own.
_ADJECTIVES = """
able amber ancient ardent azure bitter blunt bold brave brief bright brisk broad calm careful chilly civic clean clever cloudy coarse cold
coral cosy crisp curious daily damp daring dark dear deep dense distant dry dusty eager early earnest easy elder empty even faint fair
famous fancy fast fertile fierce fine firm flat fond formal fragile frank fresh frosty full gentle giant glad golden grand grave green
grey happy hardy harsh hasty hazy heavy hidden high hollow honest humble icy ideal idle inner ivory jolly keen kind large late lazy lean
light lively local lofty lone long loud loyal lucky mellow mighty mild misty modest narrow neat noble northern odd old open orderly pale
patient plain pleasant polite proud pure quick quiet rapid rare ready red remote rich ripe rough round royal rural rusty sandy scarlet
secret serene shallow sharp shiny short silent silver simple sleepy slim slow small smooth snowy soft solid sour southern spare speedy
spicy square stable steady steep stern stiff still stormy strange strict strong sturdy subtle sudden sunny sweet swift tall tame tender
thick thin tidy timid tiny tired total tough upper urban vague vast velvet vivid warm weary western wet white wide wild windy wise witty
wooden worthy yellow young zesty
"""
_NOUNS = """
anchor apple apron arch arrow artist ash attic autumn avenue axle badge bakery balcony bamboo banjo bank barge barley barn barrel basin
basket beacon bean bear beard bell bench berry bird blanket blossom board boat bonfire book boot border bottle boulder bowl branch brass
bread brick bridge brook broom brush bucket butter button cabin cable cactus camera canal candle canoe canvas canyon captain card carpet
carrot castle cedar cellar chain chair chalk chapel cheese cherry chest chimney circle clay cliff clock cloud clover coast coat coin
collar comet compass copper corner cottage cotton cousin cradle crane crater creek cricket crown crystal cup curtain cushion daisy dancer
dawn desert desk diary dish dock dolphin donkey door dragon drawer drum dune eagle easel echo elbow elm engine envelope fabric falcon
farmer feather fence fern ferry fiddle field finger fjord flag flame flask flour flute forest fork fountain fox frame frost furnace galaxy
garden garlic gate geyser ginger glacier glass glove goat grape gravel guitar hammer harbor harp harvest hat hawk hazel hedge helmet heron
hill hinge honey hood horizon horn iris island ivy jacket jar jewel jungle kettle key kite kitten ladder lake lamp lantern lark laurel
lawn leaf lemon lever library lily lion lizard loom lotus magnet mango mantle maple marble market marsh mast meadow melon mill mint mirror
mitten moon moss moth mountain museum needle nest net nickel notebook nutmeg oak oar oasis ocean olive onion orchard otter oven owl oyster
paddle palace palm panda paper parrot path pearl pebble pencil pepper piano pigeon pillow pine pirate planet plum pocket poem pond poppy
porch prairie puppet puzzle quail quarry quilt rabbit raft rain raven reef ribbon ridge river robin rocket roof rope rose saddle sail
salmon scarf school sculptor seal shelf shell ship shore shovel silk skate sled slope snail sofa sparrow spice spoon spring spruce
squirrel stable statue stone stream street sugar summit sunset swan table teapot temple thistle thread thunder tiger timber torch tower
trail train treasure trumpet tulip tunnel turtle valley vase village vine violin wagon walnut water wave wheat whistle willow window
winter wolf wool yarn zebra
"""

ADJECTIVES = tuple(_ADJECTIVES.split())
NOUNS = tuple(_NOUNS.split())


def word(rng: random.Random) -> str:
    """An adjective and a noun, such as `quiet-harbor`."""
    return f"{rng.choice(ADJECTIVES)}-{rng.choice(NOUNS)}"


def number(rng: random.Random) -> str:
    """Seven digits."""
    return str(rng.randrange(10**6, 10**7))


def identifier(rng: random.Random) -> str:
    """A version 4 uuid."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def variable(rng: random.Random) -> str:
    """Five capital letters."""
    return "".join(rng.choices(string.ascii_uppercase, k=5))


def coded_word(rng: random.Random) -> str:
    """Six small letters."""
    return "".join(rng.choices(string.ascii_lowercase, k=6))


def different(draw: Callable[[random.Random], str], rng: random.Random, count: int) -> list[str]:
    """`count` different ones, in the order in which they were drawn."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw(rng)] = None
    return list(found)


def plain_words(rng: random.Random, count: int) -> list[str]:
    """`count` different words: plain ones, and pairs such as `quiet-harbor` when they run out. Raises InvalidRequest if those do, too."""
    single = [*ADJECTIVES, *(noun for noun in NOUNS if noun not in ADJECTIVES)]
    if count <= len(single):
        return rng.sample(single, count)
    if count > len(ADJECTIVES) * len(NOUNS) // 2:
        raise InvalidRequest(f"{count} different words are needed, more than there are; ask for a shorter length", param="length")
    rng.shuffle(single)
    return single + different(word, rng, count - len(single))
