"""The vocabulary of the story grammar: who, where, which thing, what sky.

Only data and the tiny classes that give a template its slots live here; how
stories are put together is in corpus.py, the sentences are in grammar.txt.
"""
from dataclasses import dataclass

GIRLS = """Mira Lena Ada Nora Elsie Ruby Clara Ivy Hazel Poppy Wren Maya Tess
Olive Fern Alma Greta Nell Zara Lucy Daisy Edith Juno Kira Lotte Mabel Pearl
Rosa Sunny Tilly Vera Willa Anya Bea Dora Anna Emma Lily Sara Sophie Alice Mia
Eva Jane Mary Molly Nina Ella Luna Grace Rose Sally Lisa""".split()
BOYS = """Tom Ben Oskar Pim Finn Leo Hugo Jonas Milo Felix Otto Rufus Sam Toby
Arlo Basil Caspar Dan Emil Gus Hank Ivan Jasper Kit Lars Max Ned Paul Quinn
Robin Simon Theo Umar Victor Will Jack Peter John James David Lucas Noah Henry
Oliver Charlie George Harry Adam Mark Bob Fred Billy Joe""".split()
ELDERS = tuple((title, is_girl) for title, is_girl in (
    ("Grandma Una", True), ("Grandpa Bram", False), ("Aunt Sela", True),
    ("Uncle Bo", False), ("Mother Goose", True), ("Captain Reed", False),
    ("Mrs Thistle", True), ("Mr Barley", False), ("Miss Plum", True),
    ("Doctor Moss", False), ("Grandma Ida", True), ("Grandpa Jory", False)))

TRAITS = """brave shy small curious kind clever patient cheerful stubborn
gentle proud quiet sleepy careful hopeful little young busy merry lonely wise
friendly funny silly""".split()

# kind -> which of "she" (g) and "he" (b) it may be
KINDS = {**{kind: "gb" for kind in """fox rabbit bear mouse owl hedgehog otter
goat badger duck squirrel turtle cat dog frog sparrow donkey lamb pony beaver
mole crow pig snail puppy kitten penguin robin baker fisher farmer miller
tailor sailor shepherd gardener carpenter weaver painter teacher robot dragon
giant elephant lion tiger wolf monkey horse deer panda parrot camel koala zebra
giraffe kangaroo crocodile dinosaur raccoon bat swan eagle seal elf troll
pirate doctor cook singer soldier hunter monster ghost astronaut child magician
hamster raven lizard mule musician captain""".split()},
         **{kind: "g" for kind in """hen girl princess queen goose cow witch
            fairy woman ewe""".split()},
         **{kind: "b" for kind in
            "rooster boy prince king knight wizard snowman man".split()}}


@dataclass(frozen=True)
class Character:
    """Somebody with a name; the properties are the pronouns to use."""

    name: str
    kind: str
    trait: str
    is_girl: bool

    def __str__(self):
        return self.name

    @property
    def he(self):
        return "she" if self.is_girl else "he"

    @property
    def him(self):
        return "her" if self.is_girl else "him"

    @property
    def his(self):
        return "her" if self.is_girl else "his"

    @property
    def himself(self):
        return self.him + "self"

    @property
    def He(self):
        return self.he.capitalize()

    @property
    def His(self):
        return self.his.capitalize()

    @property
    def the(self):
        return "the " + self.kind

    @property
    def The(self):
        return "The " + self.kind


@dataclass(frozen=True)
class Thing:
    """Something one can carry, with how it looks and what it does."""

    name: str
    look: str
    does: str

    def __str__(self):
        return self.name

    @property
    def a(self):
        return f"a {self.look} {self.name}"

    @property
    def the(self):
        return "the " + self.name

    @property
    def The(self):
        return "The " + self.name


@dataclass(frozen=True)
class Spot:
    """A corner of a place: str() names it, `at` says where something lies."""

    at: str
    name: str

    def __str__(self):
        return self.name


@dataclass(frozen=True)
class Place:
    """Where a story plays, with corners that belong together."""

    where: str
    name: str
    spots: tuple

    def __str__(self):
        return self.name

    @property
    def Where(self):
        return self.where[0].upper() + self.where[1:]


def _place(where, name, *spots):
    made = []
    for text in spots:
        at, noun = text.split(" the ", 1)
        made.append(Spot(text, "the " + noun))
    return Place(where, name, tuple(made))


PLACES = (
    _place("in a quiet village by the river", "the village",
           "under the old bridge", "behind the mill",
           "beside the village well", "near the market square",
           "under the bench by the church"),
    _place("at the edge of a green forest", "the forest",
           "under the tall oak tree", "beside the stream",
           "behind the mossy rock", "in the hollow log",
           "near the blackberry bushes"),
    _place("on a windy hill above the sea", "the hill",
           "beside the stone wall", "near the lighthouse",
           "under the thorn tree", "behind the sheep gate",
           "on the path to the shore"),
    _place("in a little harbor town", "the harbor",
           "on the wooden pier", "behind the fishing nets",
           "under the upside-down boat", "near the lighthouse",
           "beside the rope shop"),
    _place("on a small farm", "the farm",
           "behind the red barn", "in the hay loft", "under the apple tree",
           "beside the duck pond", "near the garden gate"),
    _place("in a valley between two mountains", "the valley",
           "beside the waterfall", "under the pine trees", "in the dry cave",
           "on the rope bridge", "near the sheep path"),
    _place("on an island with yellow sand", "the island",
           "under the palm tree", "behind the tall dunes", "in the rock pool",
           "beside the old boat house", "near the sea cave"),
    _place("in a town with narrow streets", "the town",
           "under the clock tower", "behind the bakery", "beside the fountain",
           "on the stone steps", "near the toy shop"),
    _place("beside a round blue lake", "the lake",
           "under the willow tree", "among the reeds", "behind the boat shed",
           "on the little bridge", "beside the flat stones"),
    _place("in a castle with seven towers", "the castle",
           "under the great stairs", "behind the kitchen door",
           "in the rose garden", "near the east gate", "beside the stables"),
    _place("in a sunny meadow", "the meadow",
           "under the daisies", "beside the brook", "behind the fallen tree",
           "near the bee hives", "in the long grass"),
    _place("in a cold land of snow and stars", "the snow land",
           "behind the ice hill", "under the frozen tree",
           "beside the wooden hut", "in the ice cave", "near the frozen pond"),
)

THINGS = tuple(Thing(*row) for row in (
    ("lantern", "brass|small|rusty", "gave a warm yellow light"),
    ("lamp", "green glass|little", "glowed softly in the dark"),
    ("scarf", "red|long woolen|striped", "was as soft as a cloud"),
    ("key", "silver|tiny gold|heavy iron", "opened a little blue box"),
    ("whistle", "wooden|tin", "made a high, clear sound"),
    ("bell", "brass|small silver", "rang clear and bright"),
    ("kite", "blue|paper|yellow", "could dance in the wind"),
    ("map", "torn|folded|paper", "showed every path and stream"),
    ("basket", "round|straw|deep", "could hold ten apples"),
    ("ball", "red|bouncy|green", "bounced higher than a house"),
    ("drum", "round|painted", "went boom like thunder"),
    ("button", "shiny|blue|wooden", "shone like a little moon"),
    ("coin", "gold|copper|shiny", "shone in the sun"),
    ("ring", "gold|silver|thin", "sparkled like a star"),
    ("clock", "wooden|old|round", "said tick tock all day"),
    ("hat", "straw|green|tall", "kept off the sun and the rain"),
    ("teapot", "blue|round|white", "made the best tea in the land"),
    ("book", "thick|picture|dusty", "was full of bright pictures"),
    ("shell", "pink|curly|white", "sounded like the sea"),
    ("feather", "white|long blue", "was lighter than air"),
    ("flute", "wooden|silver", "could sing like a bird"),
    ("blanket", "warm|patched|soft", "smelled of lavender"),
    ("compass", "brass|old", "always pointed north"),
    ("music box", "painted|tiny", "played a slow, sweet song"),
    ("marble", "glass|green", "held a swirl of color inside"),
    ("mirror", "round|little silver", "threw spots of light on the wall"),
    ("boat", "toy|little paper", "could float on any stream"),
    ("umbrella", "purple|large|yellow", "opened like a flower"),
    ("crown", "paper|golden", "sparkled on every side"),
    ("stone", "smooth|round white|striped", "felt warm in the hand"),
))

FOODS = ("bread", "honey cake", "apple pie", "vegetable soup", "plum jam",
         "berry tart", "cheese", "pancakes", "oat cookies", "nut cake",
         "pumpkin soup", "ginger cookies")

# time of day -> a sentence about the sky that fits it
SKIES = {
    "morning": (
        "The sun was just coming up.", "The grass was still wet.",
        "Birds were singing in the trees.", "The air was fresh and cool.",
        "A soft mist lay over the ground.", "The sky was pink and gold.",
        "The sun shone through thin white clouds."),
    "afternoon": (
        "The sun was warm.", "White clouds sailed across the sky.",
        "A light wind moved the leaves.", "The bees were busy.",
        "It was neither too hot nor too cold.", "The sky was clear and blue.",
        "It smelled of grass and flowers."),
    "evening": (
        "The sun was going down.", "The first star was already out.",
        "The sky had turned orange.", "Long shadows lay on the ground.",
        "Lights came on in the windows.", "The air was still and cool.",
        "Far away, an owl was calling."),
}
