"""Words of the calibration prompts: invented names, and facts with their statements and questions.

It holds no text of any data set. In the templates ``{n}`` is the name of the subject, ``{s}`` the name or, in later
sentences, a pronoun at the start of a sentence, ``{v}`` the value of the fact.
"""

from dataclasses import dataclass

__all__ = ["CODE", "KINDS_OF_THING", "MOTTO", "NAMES", "PHRASE", "VALUES", "Fact", "Thing"]


@dataclass(frozen=True)
class Fact:
    """One fact, with sentences that state it and questions in the same words and in other words.

    Attributes:
        value: which list of `VALUES` the value comes from; or "person" or "town", a name; or "year".
        statements: sentences that state it.
        questions: questions in the words of the sentences.
        reworded_questions: questions that share no content word with any of the sentences.
        bridge: a phrase for a value that has facts of its own, such as "the captain of {n}".
        comparison: a question for the one of two things, {a} or {b}, whose year is the earlier one.
    """

    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    reworded_questions: tuple[str, ...]
    bridge: str = ""
    comparison: str = ""


@dataclass(frozen=True)
class Thing:
    """A kind of thing that a document can be about.

    Attributes:
        pronouns: words that may replace the name at the start of a sentence.
        facts: the facts about such things.
        fillers: sentences that state none of the facts.
    """

    pronouns: tuple[str, ...]
    facts: tuple[Fact, ...]
    fillers: tuple[str, ...]


# a name has two parts; each part is used once in a prompt
NAMES: dict[str, tuple[str, str, str]] = {  # kind: (form, first parts, second parts)
    "person": (
        "{0} {1}",
        "Averin Belto Cassil Dorrin Elvane Fenno Garrel Hestin Irvo Jassel Korvin Lanthe Mirrel Nardo Ovelle Parrin "
        "Quillon Rendar Sabrel Tolvin Urric Vessa Wendril Yorrel",
        "Aldmere Brostock Carneck Dunvil Estervane Fallowick Grinstow Harrowgast Islebrand Jorminster Kelbeck Lorrowby "
        "Marnholt Nettlecroft Ormsgate Pellandine Quarrick Rushmarsh Stennock Tarrowin Ullersby Vardeck Wyndham-Orr "
        "Yelverstone",
    ),
    "town": (
        "{0}{1}",
        "Ald Brin Corr Dusk Esk Fenn Grell Hov Ister Kell Lunn Mort Ness Osk Prenn Rav Skell Torv Ulf Vess Wyr Yarn",
        "bury comb den fell gate holm ling moor ness ombe port quay rick stead thorpe umber vale wold yard zell "
        "croft mouth",
    ),
    "ship": (
        "the {0} {1}",
        "Amber Bitter Crooked Drifting Early Fearless Gentle Hollow Idle Jagged Lonely Merry Northern Open Patient "
        "Quiet Restless Silent Twin Velvet",
        "Albatross Bramble Cormorant Dolphin Ember Falcon Gannet Heron Juniper Kestrel Lantern Magpie Nightjar Osprey "
        "Petrel Raven Sparrow Thistle Walrus Wren",
    ),
    "house": (
        "the {0} {1}",
        "Abberley Bexcombe Cawdrey Delmond Everlock Farrant Gisborough Haldane-Roe Ingleford Jessamy Kirrin Lochard "
        "Maddern Norbury Ottery Penhallow Quenby Rossiter Selwick Trevanion",
        "Company Works Brothers Partnership Foundry Workshop Manufactory Trading-House Union Guild Concern Society "
        "Syndicate Association Enterprise Bureau Office Cooperative Establishment Firm",
    ),
}

# no value is a word of a template or of another list, so that an answer occurs only in its planted sentence
VALUES = {
    "job": "beekeeper, clockmaker, glassblower, baker, surveyor, bookbinder, midwife, locksmith, saddler, weaver, "
    "tailor, cartographer",
    "instrument": "harp, bassoon, zither, oboe, accordion, viola, trumpet, mandolin, dulcimer, tambourine, cello, "
    "clarinet",
    "animal": "goat, ferret, parrot, tortoise, donkey, rabbit, hedgehog, goose, squirrel, lizard, peacock, badger",
    "dish": "barley soup, pickled herring, onion pie, plum dumplings, roast chestnuts, lentil stew, smoked trout, "
    "apple fritters, cabbage rolls, mushroom pancakes, bean salad, ginger porridge",
    "river": "Orvel, Tessin, Marrow, Quenna, Lisk, Dravel, Hurne, Sallow, Wenlo, Arkle, Bessik, Ulmer",
    "goods": "blue pottery, sheep's cheese, wicker baskets, linen thread, dried sage, carved spoons, salted butter, "
    "woollen gloves, silver buttons, beeswax candles, cherry brandy, paper kites",
    "month": "January, February, March, April, May, June, July, August, September, October, November, December",
    "building": "windmill, granary, water tower, chapel, observatory, library, brewery, customs hall, theatre, "
    "hospital, mint, lighthouse",
    "cargo": "timber, coffee, marble, tobacco, sugar, wheat, granite, cotton, coal, rice, slate, pepper",
    "colour": "crimson, yellow, violet, scarlet, turquoise, brown, emerald, orange, grey, pink, indigo, ivory",
    "product": "door hinges, pocket watches, bicycles, umbrellas, typewriters, garden shears, violin strings, "
    "kettles, mirrors, fishing nets, ladders, compasses",
    "sign": "crown, hammer, rooster, lobster, dragon, pelican, beehive, comet, sickle, thimble, pinecone, dagger",
}

# the words of a motto
PHRASE = (
    "copper winter basket meadow seven hollow bright ladder under salt window marching never cloud iron twelve "
    "orchard slowly feather bridge whisper golden harbour stone quickly velvet mountain thirty lantern river"
)

CODE = Fact(
    "code",
    ("The registry code of {n} is {v}.", "In the register {n} has the code {v}."),
    ("Repeat the code of {n} exactly.", "What is the code of {n}?"),
    (),
)
MOTTO = Fact(
    "motto",
    ('The motto of {n} is "{v}".', '{s} has the motto "{v}".'),
    ("Repeat the motto of {n} word for word.", "What is the motto of {n}?"),
    (),
)

PERSON = Thing(
    ("She", "He"),
    (
        Fact(
            "town",
            ("{s} was born in {v}.", "{s} was born in {v} on a winter night."),
            ("Where was {n} born?", "In which town was {n} born?"),
            ("From which place does {n} come?", "What is the native village of {n}?"),
            bridge="the town in which {n} was born",
        ),
        Fact(
            "job",
            ("{s} works as a {v}.", "{s} has worked as a {v} for many years."),
            ("What does {n} work as?", "As what has {n} worked?"),
            ("What is the profession of {n}?", "How does {n} earn a living?"),
        ),
        Fact(
            "instrument",
            ("{s} plays the {v} in the evening.", "On holidays {n} plays the {v} for the neighbours."),
            ("What does {n} play?", "Which instrument does {n} play?"),
            ("On what does {n} make music?", "Which musical talent does {n} have?"),
        ),
        Fact(
            "animal",
            ("{s} keeps a {v} behind the house.", "{s} keeps a {v}, which sleeps by the stove."),
            ("Which animal does {n} keep?", "What does {n} keep at home?"),
            ("What kind of pet does {n} own?", "Which creature belongs to {n}?"),
        ),
        Fact(
            "dish",
            ("{s} likes {v} best of all dishes.", "Of all dishes {n} likes {v} best."),
            ("Which dish does {n} like best?", "What does {n} like best to eat?"),
            ("What is the favourite food of {n}?", "What would {n} order for supper?"),
        ),
        Fact(
            "person",
            ("{s} learned the trade from {v}.", "{s} learned everything about the trade from {v}."),
            ("From whom did {n} learn the trade?",),
            ("Who was the teacher of {n}?", "Whose pupil was {n}?"),
            bridge="the person from whom {n} learned the trade",
        ),
        Fact(
            "year",
            ("{s} left school in {v}.", "{s} left school in the spring of {v}."),
            ("In which year did {n} leave school?",),
            ("When did the education of {n} end?",),
            comparison="Who left school earlier, {a} or {b}?",
        ),
    ),
    (
        "{s} is seldom seen without a hat.",
        "People say that {n} knows every path around the lake.",
        "{s} writes long letters to an aunt abroad.",
        "Nobody remembers when {n} last missed a dance.",
        "{s} walks to the mill pond before breakfast.",
    ),
)

TOWN = Thing(
    ("It", "The town", "The place"),
    (
        Fact(
            "river",
            ("{s} lies on the river {v}.", "The river {v} runs through {n}."),
            ("On which river does {n} lie?", "Which river runs through {n}?"),
            ("Which water flows past the roofs of {n}?", "What stream does one cross to get into {n}?"),
        ),
        Fact(
            "year",
            ("{s} was founded in {v}.", "{s} was founded by fishermen in {v}."),
            ("In which year was {n} founded?", "When was {n} founded?"),
            ("Since when has {n} existed?", "How far back does the history of {n} go?"),
            comparison="Which was founded earlier, {a} or {b}?",
        ),
        Fact(
            "goods",
            ("{s} is known for its {v}.", "Far away {n} is known for its {v}."),
            ("What is {n} known for?",),
            ("What do traders buy in {n}?", "Which speciality made {n} famous?"),
        ),
        Fact(
            "person",
            ("The mayor of {n} is {v}.", "{s} has a mayor whose name is {v}."),
            ("Who is the mayor of {n}?",),
            ("Who leads the council in {n}?", "Who governs {n}?"),
            bridge="the mayor of {n}",
        ),
        Fact(
            "month",
            ("{s} holds a lantern fair every {v}.", "Every {v} there is a lantern fair in {n}."),
            ("In which month is the lantern fair in {n}?",),
            ("When does {n} celebrate with lights?",),
        ),
        Fact(
            "building",
            ("The tallest building in {n} is the {v}.", "{s} has one tall building, the {v}."),
            ("What is the tallest building in {n}?",),
            ("What towers above everything else in {n}?", "Which landmark can be seen far outside {n}?"),
        ),
    ),
    (
        "{s} has narrow streets and many cats.",
        "Travellers seldom stay in {n} longer than a night.",
        "{s} was rebuilt after a fire.",
        "The road to {n} is steep and often closed by snow.",
        "{s} has had electric trams for a short time only.",
    ),
)

SHIP = Thing(
    ("She", "It", "The ship", "The vessel"),
    (
        Fact(
            "town",
            ("{s} was built in {v}.", "{s} was built in {v} from old oak."),
            ("Where was {n} built?", "In which town was {n} built?"),
            ("From which shipyard did {n} come?", "What place made {n}?"),
            bridge="the town in which {n} was built",
        ),
        Fact(
            "person",
            ("The captain of {n} is {v}.", "{s} sails under captain {v}."),
            ("Who is the captain of {n}?",),
            ("Who gives the orders on board {n}?", "Who commands {n}?"),
            bridge="the captain of {n}",
        ),
        Fact(
            "cargo",
            ("{s} carries {v} across the strait.", "On most voyages {n} carries {v}."),
            ("What does {n} carry?", "What does {n} carry on most voyages?"),
            ("What fills the hold of {n}?", "Which freight is loaded onto {n}?"),
        ),
        Fact(
            "year",
            ("{s} was launched in {v}.", "{s} was launched in the autumn of {v}."),
            ("In which year was {n} launched?", "When was {n} launched?"),
            ("When did {n} first touch the water?", "How old is {n}; since when has it been afloat?"),
            comparison="Which was launched earlier, {a} or {b}?",
        ),
        Fact(
            "colour",
            ("The hull of {n} is painted {v}.", "{s} has a hull that is painted {v}."),
            ("What colour is the hull of {n} painted?",),
            ("Which shade do the outer planks of {n} show?",),
        ),
    ),
    (
        "{s} leaks a little in heavy weather.",
        "The crew of {n} sings while the ropes are hauled in.",
        "{s} has twice run aground without much harm.",
        "Children wave whenever {n} passes the pier.",
        "{s} needs a new mast before long.",
    ),
)

HOUSE = Thing(
    ("It", "The firm", "The business"),
    (
        Fact(
            "person",
            ("{s} was founded by {v}.", "{s} was founded long ago by {v}."),
            ("Who founded {n}?", "By whom was {n} founded?"),
            ("Who set up {n}?", "Whose idea was {n}?"),
            bridge="the founder of {n}",
        ),
        Fact(
            "town",
            ("{s} has its head office in {v}.", "The head office of {n} is in {v}."),
            ("Where is the head office of {n}?", "In which town is the head office of {n}?"),
            ("Where are the headquarters of {n}?", "From which place is {n} run?"),
            bridge="the town in which {n} has its head office",
        ),
        Fact(
            "product",
            ("{s} makes {v}.", "{s} makes {v} by hand."),
            ("What does {n} make?",),
            ("What does {n} sell?", "What leaves the workshops of {n}?"),
        ),
        Fact(
            "year",
            ("{s} opened in {v}.", "{s} opened with a small party in {v}."),
            ("In which year was {n} opened?", "When was {n} opened?"),
            ("Since when has {n} been in trade?", "How far back does {n} date?"),
            comparison="Which opened earlier, {a} or {b}?",
        ),
        Fact(
            "sign",
            ("The sign of {n} shows a {v}.", "{s} has a sign that shows a {v}."),
            ("What does the sign of {n} show?",),
            ("What is painted above the entrance of {n}?", "Which emblem does {n} use?"),
        ),
    ),
    (
        "{s} has never had more than forty hands.",
        "Its letters are still written with a quill, and {n} is proud of it.",
        "{s} once burned down and was put up again within a month.",
        "A cat named after the bookkeeper lives at {n}.",
        "{s} closes early on Saturdays.",
    ),
)

KINDS_OF_THING = {"person": PERSON, "town": TOWN, "ship": SHIP, "house": HOUSE}
