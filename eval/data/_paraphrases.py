"""Evidence that shares no content word with question and answer: other words, another language, code names.

The question names a person by a role ("the doctor"). The evidence gives the role and the fact in other words, or in
another language. In the templates ``{n}`` is the person's name, ``{v}`` the value.
"""

from dataclasses import dataclass

__all__ = ["CODE_NAMES", "FORMS", "HABITS", "LANGUAGES", "ROLES", "SECRETS", "SECRET_ROLES", "Habit", "Secret"]

FORMS = ("other words", "code names", "other language")  # of `paraphrase` rows, in turn
LANGUAGES = ("English", "German", "French", "Spanish")

# role in the question: the same in other English words, in German, in French, in Spanish
ROLES = {
    "doctor": (
        "{n} is the only physician for miles around.",
        "{n} arbeitet als Ärztin.",
        "{n} travaille comme médecin.",
        "{n} trabaja como médica.",
    ),
    "lawyer": (
        "{n} is an attorney of some repute.",
        "{n} arbeitet als Anwältin.",
        "{n} travaille comme avocate.",
        "{n} trabaja como abogada.",
    ),
    "teacher": (
        "{n} is headmaster and gives lessons to pupils.",
        "{n} arbeitet als Lehrerin.",
        "{n} travaille comme institutrice.",
        "{n} trabaja como maestra.",
    ),
    "baker": (
        "{n} makes bread and rolls for the whole street.",
        "{n} arbeitet als Bäckerin.",
        "{n} travaille comme boulangère.",
        "{n} trabaja como panadera.",
    ),
    "sailor": (
        "{n} is an old mariner.",
        "{n} arbeitet als Matrosin.",
        "{n} travaille comme matelot.",
        "{n} trabaja como marinera.",
    ),
    "farmer": (
        "{n} tills the fields and sows wheat.",
        "{n} arbeitet als Bäuerin.",
        "{n} travaille comme paysanne.",
        "{n} trabaja como campesina.",
    ),
    "thief": (
        "{n} is a pickpocket and a burglar.",
        "{n} ist als Diebin bekannt.",
        "{n} est connue comme voleuse.",
        "{n} tiene fama de ladrona.",
    ),
    "priest": (
        "{n} is the vicar of a small parish.",
        "{n} arbeitet als Pfarrerin.",
        "{n} travaille comme curé.",
        "{n} trabaja como sacerdote.",
    ),
    "judge": (
        "{n} is the magistrate who presides over the court.",
        "{n} arbeitet als Richterin.",
        "{n} travaille comme juge.",
        "{n} trabaja como jueza.",
    ),
    "cook": (
        "{n} is the chef of a large kitchen.",
        "{n} arbeitet als Köchin.",
        "{n} travaille comme cuisinière.",
        "{n} trabaja como cocinera.",
    ),
    "writer": (
        "{n} is a novelist of some fame.",
        "{n} arbeitet als Schriftstellerin.",
        "{n} travaille comme romancière.",
        "{n} trabaja como novelista.",
    ),
    "soldier": (
        "{n} serves in the infantry.",
        "{n} ist bei der Armee.",
        "{n} travaille comme militaire.",
        "{n} trabaja como militar.",
    ),
}


@dataclass(frozen=True)
class Habit:
    """A statement about a person.

    Attributes:
        question: the question about it, where {r} is the role.
        answer: its answer as a sentence, where {v} is the value.
        sentences: the sentence in other English words, in German, in French and in Spanish.
        values: the value in the answer, and {v} in each of the four sentences.
    """

    question: str
    answer: str
    sentences: tuple[str, str, str, str]
    values: tuple[tuple[str, str, str, str, str], ...]


HABITS = (
    Habit(
        "Which animal does the {r} own?",
        "The {r} owns a {v}.",
        (
            "{n} keeps {v} in a shed.",
            "{n} hält zu Hause {v}.",
            "Chez soi, {n} élève {v}.",
            "{n} tiene en casa {v}.",
        ),
        (
            ("dog", "a hound", "einen Hund", "un chien", "un perro"),
            ("horse", "a stallion", "ein Pferd", "un cheval", "un caballo"),
            ("pig", "a sow", "ein Schwein", "un cochon", "un cerdo"),
            ("rabbit", "a bunny", "ein Kaninchen", "un lapin", "un conejo"),
            ("chicken", "a hen", "ein Huhn", "une poule", "una gallina"),
            ("cow", "a heifer", "eine Kuh", "une vache", "una vaca"),
            ("sheep", "a ewe", "ein Schaf", "un mouton", "una oveja"),
            ("cat", "a kitten", "eine Katze", "un chat", "un gato"),
        ),
    ),
    Habit(
        "What does the {r} like to drink?",
        "The {r} likes to drink {v}.",
        (
            "{n} is fond of {v}.",
            "{n} genießt am Abend {v}.",
            "{n} savoure le soir {v}.",
            "{n} disfruta por la noche de {v}.",
        ),
        (
            ("coffee", "espresso", "einen Kaffee", "un café", "un café"),
            ("tea", "Darjeeling", "einen Tee", "un thé", "un té"),
            ("wine", "claret", "einen Wein", "un vin", "un vino"),
            ("beer", "ale", "ein Bier", "une bière", "una cerveza"),
        ),
    ),
    Habit(
        "Where does the {r} live?",
        "The {r} lives {v}.",
        ("{n} dwells {v}.", "{n} wohnt {v}.", "{n} habite {v}.", "{n} reside {v}."),
        (
            ("in a forest", "among the trees", "im Wald", "dans les bois", "entre los árboles"),
            ("in a castle", "behind fortress walls", "in einer Burg", "derrière les murs d'un fort", "en un castillo"),
            ("on a ship", "aboard a schooner", "auf einem Dampfer", "à bord d'un bateau", "en un barco"),
            ("in a cave", "inside a grotto", "in einer Höhle", "dans une grotte", "en una gruta"),
            ("by the sea", "beside the ocean", "am Meer", "au bord de la mer", "junto al mar"),
            ("in a hotel", "at an inn", "in einem Gasthof", "dans une auberge", "en una posada"),
        ),
    ),
    Habit(
        "How does the {r} get to work?",
        "The {r} gets to work {v}.",
        (
            "{n} {v} to the office each morning.",
            "{n} kommt morgens {v} ins Büro.",
            "Le matin, {n} arrive au bureau {v}.",
            "Por la mañana {n} llega a la oficina {v}.",
        ),
        (
            ("by bicycle", "pedals", "mit dem Fahrrad", "à vélo", "en bici"),
            ("by car", "drives", "mit dem Auto", "en voiture", "en coche"),
            ("by boat", "rows", "mit dem Kahn", "en barque", "en barca"),
            ("on foot", "walks", "zu Fuß", "à pied", "a pie"),
            ("on a horse", "gallops", "im Sattel", "à cheval", "a caballo"),
        ),
    ),
    Habit(
        "What colour is the coat of the {r}?",
        "The coat of the {r} is {v}.",
        (
            "{n} always puts on a {v} jacket.",
            "{n} trägt immer eine {v} Jacke.",
            "{n} porte toujours une veste {v}.",
            "{n} lleva siempre una chaqueta {v}.",
        ),
        (
            ("red", "scarlet", "rote", "rouge", "roja"),
            ("blue", "azure", "blaue", "bleue", "azul"),
            ("green", "emerald", "grüne", "verte", "verde"),
            ("purple", "lilac", "violette", "violette", "morada"),
            ("black", "ebony", "schwarze", "noire", "negra"),
            ("white", "ivory", "weiße", "blanche", "blanca"),
            ("yellow", "amber", "gelbe", "jaune", "amarilla"),
        ),
    ),
    Habit(
        "What is the {r} afraid of?",
        "The {r} is afraid of {v}.",
        (
            "{n} trembles at the sight of {v}.",
            "{n} fürchtet sich vor {v}.",
            "{n} redoute {v}.",
            "{n} teme a {v}.",
        ),
        (
            ("spiders", "tarantulas", "Spinnen", "les araignées", "las arañas"),
            ("ghosts", "phantoms", "Gespenstern", "les fantômes", "los fantasmas"),
            ("mice", "rodents", "Mäusen", "les souris", "los ratones"),
            ("snakes", "vipers", "Schlangen", "les couleuvres", "las serpientes"),
            ("fire", "flames", "Feuer", "les incendies", "las llamas"),
            ("storms", "hurricanes", "Unwettern", "les tempêtes", "los huracanes"),
        ),
    ),
    Habit(
        "What does the {r} eat for breakfast?",
        "The {r} eats {v} for breakfast.",
        (
            "{n} begins each day with {v}.",
            "Morgens isst {n} {v}.",
            "Le matin, {n} mange {v}.",
            "Por la mañana {n} come {v}.",
        ),
        (
            ("eggs", "an omelette", "Eier", "des œufs", "huevos"),
            ("fish", "smoked trout", "Forelle", "du poisson", "pescado"),
            ("soup", "broth", "Eintopf", "du potage", "sopa"),
            ("cheese", "cheddar", "Käse", "du fromage", "queso"),
            ("meat", "ham and bacon", "Fleisch", "de la viande", "carne"),
        ),
    ),
)


@dataclass(frozen=True)
class Secret:
    """A message in code names.

    Attributes:
        question: the question about it, where {r} is the role.
        answer: its answer as a sentence, where {v} is the value.
        sentence: the message in code names, {a} for the role and {b} for the value.
        values: as `Relation.values`.
    """

    question: str
    answer: str
    sentence: str
    values: tuple[str, ...] | str


SECRET_ROLES = (
    *("ambassador", "general", "merchant", "banker", "minister", "professor", "surgeon", "architect", "mayor"),
    *("admiral", "duke", "colonel"),
)
CODE_NAMES = (
    "Cobalt Willow Meteor Otter Saffron Onyx Basalt Walnut Pebble Turbine Cactus Domino Magnet Biscuit Rocket Parsnip"
)
SECRETS = (
    Secret(
        "To which town does the {r} travel?", "The {r} travels to {v}.", "{a} leaves for {b} before sunrise.", "place"
    ),
    Secret("Whom does the {r} distrust?", "The {r} distrusts {v}.", "{a} has doubts about {b}.", "person"),
    Secret(
        "What does the {r} hide in the cellar?",
        "The {r} hides {v} in the cellar.",
        "{a} keeps {b} below the floor.",
        ("gold coins", "stolen paintings", "old maps", "rare books", "diamonds", "a printing press", "love letters"),
    ),
    Secret(
        "Which place does the {r} want to attack?",
        "The {r} wants to attack {v}.",
        "{a} gives orders to march on {b}.",
        "place",
    ),
    Secret(
        "Who is the sister of the {r}?", "The sister of the {r} is {v}.", "{a} shares both parents with {b}.", "person"
    ),
)
