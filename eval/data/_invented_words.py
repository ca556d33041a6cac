"""The words of generated rows: invented names, facts about invented places and people, and facts that models know.

The prompts on which retrieval heads are chosen (`attributor calibrate`) have other names and sentences. So these rows
do not favour those heads. In the templates ``{n}`` is the name of a place or a person, ``{v}`` the value of the fact.
"""

from dataclasses import dataclass

__all__ = ["FILLERS", "FIRST_NAMES", "KNOWN_FACTS", "NAME_PARTS", "RELATIONS", "TITLES", "KnownFact", "Relation"]


@dataclass(frozen=True)
class Relation:
    """A type of fact that can be invented for any name.

    Attributes:
        subject: "place" or "person": what {n} is.
        values: the possible words for {v}, or a range of numbers; "place" or "person" for an invented name.
        statements: sentences that state the fact, in different words.
        question: the question about it.
        answer: its answer as a sentence.
        lure: a sentence with all content words of the question that does not state the fact.
    """

    subject: str
    values: tuple[str, ...] | range | str
    statements: tuple[str, str, str]
    question: str
    answer: str
    lure: str


@dataclass(frozen=True)
class KnownFact:
    """A fact that most language models know.

    Attributes:
        topic: a title for documents about it.
        question: the question about it.
        value: the answer in a word or two.
        answer: the answer as a sentence.
        statements: two sentences that state it, in different words.
    """

    topic: str
    question: str
    value: str
    answer: str
    statements: tuple[str, str]


# a place name is one part of each line; a surname is one part of each of the first two lines, and "son" or "er"
NAME_PARTS = (
    "Bra Cle Dro Fla Gri Hu Ja Kro Li Mo Ni Pla Que Ro Sti Tha Ur Vi Wo Zu",
    "bel dar fen gal lor min nak ros tur vel zan pim",
    "a e i o eth is on um ast",
)
FIRST_NAMES = (
    "Adrik Bettina Corvo Dessa Emeric Fiora Gunnar Halka Isolde Jorin Katrin Ludo Mireille Nestor Odile Pavel Rosalba "
    "Sverre Tamsin Ulla Viggo Wanda Yannick Zora"
)
TITLES = ("{n}", "About {n}", "Notes on {n}", "{n} in brief", "A few words on {n}", "{n}, an overview")
FILLERS = {
    "place": (
        "The road to {n} follows a small river.",
        "Rain falls in {n} more often than elsewhere.",
        "A painter from {n} once won a prize abroad.",
        "The post office of {n} closes at noon.",
        "Many families in {n} keep bees.",
        "In winter {n} is quiet.",
        "The market of {n} sells baskets and soap.",
        "{n} lies between two hills.",
        "An old wall surrounds {n}.",
        "Cyclists like to rest in {n}.",
        "The newspaper of {n} has four pages.",
        "Storks nest on the chimneys of {n}.",
    ),
    "person": (
        "{n} rises early and walks a lot.",
        "Everybody in the street greets {n} by name.",
        "{n} collects old stamps.",
        "Letters from {n} are always short.",
        "{n} grew up beside a canal.",
        "{n} seldom takes a holiday.",
        "A cousin of {n} lives across the hall.",
        "{n} speaks slowly and laughs loudly.",
    ),
}

RELATIONS = (
    Relation(
        "place",
        range(90, 390),
        (
            "The lighthouse of {n} has {v} steps.",
            "To reach the lamp, the keeper of the lighthouse of {n} climbs {v} stairs.",
            "Inside the lighthouse of {n} a staircase of {v} steps winds upwards.",
        ),
        "How many steps does the lighthouse of {n} have?",
        "The lighthouse of {n} has {v} steps.",
        "Children try to guess how many steps the lighthouse of {n} has.",
    ),
    Relation(
        "place",
        range(40, 900),
        (
            "The bridge of {n} is {v} metres long.",
            "From bank to bank the bridge of {n} measures {v} metres.",
            "Whoever crosses the bridge of {n} walks {v} metres above the water.",
        ),
        "How many metres long is the bridge of {n}?",
        "The bridge of {n} is {v} metres long.",
        "The bridge of {n} is many metres long, but nobody has the plans any more.",
    ),
    Relation(
        "place",
        range(1710, 1990),
        (
            "The school of {n} opened in {v}.",
            "Lessons at the school of {n} began in {v}.",
            "Since {v} children have gone to the school of {n}.",
        ),
        "In which year did the school of {n} open?",
        "The school of {n} opened in {v}.",
        "Late in the year the school of {n} will open its new hall.",
    ),
    Relation(
        "place",
        "person",
        (
            "The inn of {n} belongs to {v}.",
            "{v} is the owner of the inn of {n}.",
            "The landlord of the inn of {n} is called {v}.",
        ),
        "Who owns the inn of {n}?",
        "{v} owns the inn of {n}.",
        "Travellers wonder who owns the inn of {n}, but the sign does not say.",
    ),
    Relation(
        "place",
        ("January", "February", "March", "April", "June", "July", "August", "September", "October", "November"),
        (
            "The kite festival of {n} takes place in {v}.",
            "Every {v} the people of {n} hold their kite festival.",
            "Kites fill the sky over {n} each {v}, when the festival is held.",
        ),
        "In which month is the kite festival of {n}?",
        "The kite festival of {n} is in {v}.",
        "The kite festival of {n} was once put off for a month because of rain.",
    ),
    Relation(
        "place",
        ("copper", "zinc", "silver", "tin", "nickel", "chalk", "graphite", "iron", "opals", "rubies"),
        (
            "The mine of {n} yields {v}.",
            "Workers dig {v} out of the mine of {n}.",
            "A train brings {v} from the mine of {n}.",
        ),
        "What does the mine of {n} yield?",
        "The mine of {n} yields {v}.",
        "Engineers argue about what else the mine of {n} could yield.",
    ),
    Relation(
        "place",
        ("wolf", "beaver", "swan", "tiger", "camel", "bear", "whale", "stork", "turtle", "fox", "deer", "bison"),
        (
            "The flag of {n} shows a {v}.",
            "A {v} is sewn onto the flag of {n}.",
            "On its flag {n} has the picture of a {v}.",
        ),
        "Which animal is on the flag of {n}?",
        "The animal on the flag of {n} is a {v}.",
        "The animal on the flag of {n} has faded in the sun.",
    ),
    Relation(
        "place",
        ("plums", "cherries", "pears", "figs", "lemons", "apricots", "peaches", "quinces", "olives", "oranges"),
        (
            "The orchards of {n} grow {v}.",
            "Farmers of {n} pick {v} in their orchards.",
            "Most trees in the orchards of {n} bear {v}.",
        ),
        "Which fruit grows in the orchards of {n}?",
        "The orchards of {n} grow {v}.",
        "A late frost decides how much fruit grows in the orchards of {n}.",
    ),
    Relation(
        "place",
        ("glass", "straw", "slate", "cedar", "bamboo", "brass", "reeds", "clay", "felt", "turf"),
        (
            "The museum of {n} has a roof of {v}.",
            "The roof of the museum of {n} is made of {v}.",
            "Builders covered the roof of the museum of {n} with {v}.",
        ),
        "What is the roof of the museum of {n} made of?",
        "The roof of the museum of {n} is made of {v}.",
        "The roof of the museum of {n} was made by an uncle of the mayor.",
    ),
    Relation(
        "place",
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        (
            "The ferry to {n} runs every {v}.",
            "Each {v} passengers can take the ferry to {n}.",
            "It is on a {v} that the ferry sails to {n}.",
        ),
        "On which day does the ferry to {n} run?",
        "The ferry to {n} runs on {v}.",
        "On a stormy day the ferry to {n} does not run at all.",
    ),
    Relation(
        "place",
        "person",
        (
            "The chess club of {n} is led by {v}.",
            "{v} leads the chess club of {n}.",
            "At the head of the chess club of {n} stands {v}.",
        ),
        "Who leads the chess club of {n}?",
        "{v} leads the chess club of {n}.",
        "A vote will decide who leads the chess club of {n} next year.",
    ),
    Relation(
        "place",
        "place",
        (
            "The twin town of {n} is {v}.",
            "{n} is twinned with {v}.",
            "{n} and {v} have been twin towns for years.",
        ),
        "What is the twin town of {n}?",
        "The twin town of {n} is {v}.",
        "Guests from the twin town of {n} come to the fair.",
    ),
    Relation(
        "place",
        range(20, 90),
        (
            "The hotel of {n} has {v} rooms.",
            "Guests of the hotel of {n} can choose among {v} rooms.",
            "There are {v} rooms in the hotel of {n}.",
        ),
        "How many rooms does the hotel of {n} have?",
        "The hotel of {n} has {v} rooms.",
        "How many rooms the hotel of {n} needs is a matter of dispute.",
    ),
    Relation(
        "person",
        ("mushrooms", "clouds", "volcanoes", "clocks", "beetles", "ropes", "tides", "comets", "mosses", "bells"),
        (
            "{n} wrote a book about {v}.",
            "The only book by {n} deals with {v}.",
            "Readers know {n} for a book on {v}.",
        ),
        "What is the book by {n} about?",
        "The book by {n} is about {v}.",
        "The book by {n} is out of print.",
    ),
    Relation(
        "person",
        ("flute", "tuba", "piano", "guitar", "banjo", "trombone", "saxophone", "organ", "lute", "triangle"),
        (
            "{n} plays the {v} in the town band.",
            "In the town band {n} can be heard on the {v}.",
            "The {v} in the town band belongs to {n}.",
        ),
        "Which instrument does {n} play in the town band?",
        "{n} plays the {v} in the town band.",
        "Everybody in the town band wants to play beside {n}, whatever the instrument.",
    ),
    Relation(
        "person",
        "place",
        (
            "{n} runs the bakery in {v}.",
            "The bakery in {v} is run by {n}.",
            "Whoever buys bread in {v} gets it from the bakery of {n}.",
        ),
        "In which village does {n} run the bakery?",
        "{n} runs the bakery in {v}.",
        "The village newspaper praised how well {n} can run the bakery alone.",
    ),
)

_CAPITALS = (
    *(("France", "Paris"), ("Japan", "Tokyo"), ("Italy", "Rome"), ("Germany", "Berlin"), ("Spain", "Madrid")),
    *(("Russia", "Moscow"), ("Egypt", "Cairo"), ("Greece", "Athens"), ("China", "Beijing"), ("Portugal", "Lisbon")),
    *(("Austria", "Vienna"), ("Ireland", "Dublin"), ("Sweden", "Stockholm"), ("Norway", "Oslo"), ("Cuba", "Havana")),
    *(("Poland", "Warsaw"), ("Kenya", "Nairobi"), ("Peru", "Lima")),
)
_BOOKS = (
    *(("Romeo and Juliet", "William Shakespeare"), ("Pride and Prejudice", "Jane Austen")),
    *(("Oliver Twist", "Charles Dickens"), ("War and Peace", "Leo Tolstoy"), ("Frankenstein", "Mary Shelley")),
    *(("Don Quixote", "Miguel de Cervantes"), ("The Republic", "Plato")),
)
KNOWN_FACTS = (
    *(
        KnownFact(
            name,
            f"What is the capital of {name}?",
            capital,
            f"The capital of {name} is {capital}.",
            (f"{capital} is the capital of {name}.", f"The government of {name} sits in {capital}."),
        )
        for name, capital in _CAPITALS
    ),
    *(
        KnownFact(
            name,
            f"Who wrote {name}?",
            author,
            f"{author} is the author of {name}.",
            (f"{author} wrote {name}.", f"{name} is a work by {author}."),
        )
        for name, author in _BOOKS
    ),
    KnownFact(
        "Oceans",
        "Which is the largest ocean on Earth?",
        "Pacific Ocean",
        "The largest ocean on Earth is the Pacific Ocean.",
        ("The largest ocean on Earth is the Pacific Ocean.", "No ocean has more water than the Pacific Ocean."),
    ),
    KnownFact(
        "Planets",
        "Which planet is known as the Red Planet?",
        "Mars",
        "The planet that is known as the Red Planet is Mars.",
        ("The Red Planet is a name of Mars.", "Because of its rust, Mars is known as the Red Planet."),
    ),
    KnownFact(
        "Calendars",
        "How many days does a week have?",
        "seven",
        "A week has seven days.",
        ("A week has seven days.", "After seven days a new week begins."),
    ),
    KnownFact(
        "Metals",
        "What is the chemical symbol of gold?",
        "Au",
        "The chemical symbol of gold is Au.",
        ("The chemical symbol of gold is Au.", "Chemists write Au where they mean gold."),
    ),
    KnownFact(
        "Spiders",
        "How many legs does a spider have?",
        "eight",
        "A spider has eight legs.",
        ("A spider has eight legs.", "Spiders walk on eight legs."),
    ),
    KnownFact(
        "Money",
        "Which currency is used in Japan?",
        "yen",
        "The currency that is used in Japan is the yen.",
        ("The currency of Japan is the yen.", "People in Japan pay in yen."),
    ),
    KnownFact(
        "Chemistry",
        "What is the chemical formula of water?",
        "H2O",
        "The chemical formula of water is H2O.",
        ("The chemical formula of water is H2O.", "Chemists write H2O for water."),
    ),
)
