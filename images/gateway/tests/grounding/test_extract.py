# SPDX-License-Identifier: Apache-2.0
"""A passage's own sentence as the answer: word for word, short, of the sort that was asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nimblet_gateway.grounding.extract import EXTRACT_WORDS, grown, plan_extract
from nimblet_gateway.grounding.passage import Passage

MANUAL = Passage(
    id="docs/wm7.pdf/3@g000001",
    text="The service desk is open on weekdays.\nA visit of the service costs 42 crowns.\n"
    "Wilbur Toft heads the service.",
    title="Ildren washing machine",
    similarity=0.6,
)
OTHER = Passage(id="docs/bog.txt/0@g000001", text="Bog cotton grows on peat.", similarity=0.1)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("How much is a visit of the service?", "A visit of the service costs 42 crowns."),
        ("Who is in the service of Ildren?", "Wilbur Toft heads the service."),
        ("On what weekdays is the desk open?", "The service desk is open on weekdays."),
    ],
)
def test_sentence_of_the_sort_asked_for_is_chosen(question: str, sentence: str) -> None:
    extract = plan_extract(question, [OTHER, MANUAL])
    assert extract is not None
    assert (extract.passage_index, extract.span.of(MANUAL.text)) == (1, sentence)


def test_long_sentence_is_cut_at_its_clauses() -> None:
    text = f"The mill {'very ' * 20}old, since the flood, was closed by Kezia Holm in autumn, they say."
    extract = plan_extract("Who closed the mill?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "since the flood, was closed by Kezia Holm in autumn, they say."


def test_row_without_clauses_is_cut_to_the_words_asked_for() -> None:
    rows = " ".join(f"Cloth{number} 4 kg {number} min 71 l" for number in range(20, 30))
    extract = plan_extract("How long does cloth25 take?", [Passage(id="a", text=rows)])
    assert extract is not None
    said = extract.span.of(rows)
    assert ("Cloth25 4 kg 25 min" in said, len(said.split())) == (True, EXTRACT_WORDS)


def test_sentence_that_follows_the_words_asked_for_answers() -> None:
    text = "On 3 May we met.\nThe fair is held again.\nIt begins on 20 September.\nThe band plays at 8."
    extract = plan_extract("When is the autumn fair of Sill?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "It begins on 20 September."


def test_rare_word_tells_more_than_words_that_every_sentence_has() -> None:
    text = "The mill of Sill runs by day.\nThe mill of Sill has rats.\nSill has a mill.\nThe weir leaks at night."
    extract = plan_extract("Why does the weir leak at the mill of Sill?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "The weir leaks at night."


def test_head_of_a_table_speaks_for_each_of_its_rows() -> None:
    text = "Boat | Crowns a week\nPunt | 9\nSkiff | 14\nRaft | 3\nA skiff has 2 oars."
    extract = plan_extract("How many crowns a week is the skiff?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "Skiff | 14"


def test_head_of_a_table_is_no_answer_itself() -> None:
    text = "Lamp | Bulb | Fuse\nPorch | E27 | 2 A\nCellar | E14 | 5 A"
    extract = plan_extract("Which fuse and bulb has the lamp on the porch?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "Porch | E27 | 2 A"


def test_first_sentence_stands_behind_its_heading() -> None:
    text = "Between ten and three o'clock you are reachable.\nOutside these hours nobody has to answer."
    extract = plan_extract("What are the core hours?", [Passage(id="a", text=text, location="Work > Core hours")])
    assert extract is not None
    assert extract.span.of(text) == "Between ten and three o'clock you are reachable."


def test_line_that_leads_a_list_answers_with_its_items() -> None:
    text = "To change the cells:\n\n- unscrew the cap,\n\n- take out the tray.\n\nThe cells last long."
    extract = plan_extract("How do I change the cells?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "To change the cells:\n\n- unscrew the cap,\n\n- take out the tray."


def test_line_that_leads_long_items_is_no_answer() -> None:
    item = "- the oven of the bakery, which is heated with peat from the bog, has at least 240 degrees,"
    text = f"Before any of you puts bread in, please see to this:\n{item}\n- the door of the oven shuts well."
    extract = plan_extract(
        "What is to be seen to before the bread is put into an oven?", [Passage(id="a", text=text)]
    )
    assert extract is not None
    assert "oven" in extract.span.of(text)


def test_items_of_a_list_have_the_words_of_its_heading() -> None:
    text = (
        "1. Take it off its base.\n2. Remove both cells and wait for 30 seconds.\n3. Hold the dial while "
        "you put the cells back.\nNote: a factory reset also removes it from your account within ten minutes."
    )
    passage = Passage(id="a", text=text, location="Lamp > Factory reset")
    extract = plan_extract("How long must the cells stay out for a factory reset?", [passage])
    assert extract is not None
    assert extract.span.of(text) == "2. Remove both cells and wait for 30 seconds."


@pytest.mark.parametrize("number", ["2.3", "\u00a7 3", "3.", "3)"])
def test_number_of_a_line_is_no_number_that_it_tells(number: str) -> None:
    text = f"{number} The lessor may raise the rent each spring.\nThe raise is 4 % at most."
    extract = plan_extract("By how much may the lessor raise the rent?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "The raise is 4 % at most."


def test_single_row_is_no_head() -> None:
    text = "The hut is open.\nHut | Beds"
    extract = plan_extract("Which beds?", [Passage(id="a", text=text)])
    assert extract is not None
    assert extract.span.of(text) == "Hut | Beds"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("How heavy is the raft?", "Weight | 80 kg"),
        ("What does a guest of 9 years pay for the raft?", "6 to 11 years | 4 crowns"),
        ("What does the tenth guest pay for the raft?", "6 to 11 years | 4 crowns"),
        ("What time of the day may the raft leave with guests?", "Guests leave | 9:00"),
    ],
    ids=["other name", "number in a range", "ordinal in a range", "sort's own name"],
)
def test_row_answers_in_other_words_than_were_asked(question: str, said: str) -> None:
    text = (
        "Raft | Facts\nColour | red\nWeight | 80 kg\nup to 5 years | free\n6 to 11 years | 4 crowns\n"
        "12 to 90 years | 7 crowns\nGuests leave | 9:00\nSafe this time | yes"
    )
    extract = plan_extract(question, [Passage(id="a", text=text, title="Raft and guest")])
    assert extract is not None
    assert extract.span.of(text) == said


def test_ordinal_word_is_a_time() -> None:
    text = "The rent is due. It must be there by the fifth day.\nFor repairs call B-4."
    extract = plan_extract("When is the rent due?", [Passage(id="a", text=text)])
    assert extract is not None
    assert "fifth day" in extract.span.of(text)


def test_passage_that_is_about_it_by_its_heading_alone_answers() -> None:
    passage = Passage(id="a", text="The door was left open.", location="Porthole light")
    extract = plan_extract("Why is the porthole lit?", [passage])
    assert extract is not None
    assert extract.span.of(passage.text) == passage.text


def test_sentence_of_several_lines_is_one() -> None:
    text = "Pour it over the samphire when you\ncan bear to hold the pot.\n\n- one spoon\n- two jars"
    assert [span.of(text) for span in Passage(id="a", text=text).units] == [
        "Pour it over the samphire when you\ncan bear to hold the pot.",
        "- one spoon",
        "- two jars",
    ]


@pytest.mark.parametrize(("similarity", "document"), [(0.5, 1), (0.1, 0)])
def test_better_sentence_wins_only_of_a_passage_that_is_nearly_as_good(similarity: float, document: int) -> None:
    # given a passage about the mill, and one that answers
    about = Passage(id="a", text="Wolder mill opens at noon.\nRats broke in.", similarity=0.52)
    answers = Passage(id="b", text="The wheel of Wolder mill broke in March.", similarity=similarity)
    # when its wheel is asked for
    extract = plan_extract("When broke the Wolder mill?", [about, answers])
    # then the other passage's sentence is taken where the passages are nearly alike
    assert extract is not None
    assert extract.passage_index == document


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Our miller retires. Kezia Holm follows.", "Our miller retires. Kezia Holm follows."),
        ("Our miller retires.\nKezia Holm follows.", "Our miller retires."),
        (f"Our miller retires. Holm follows {'very ' * 20}soon.", "Our miller retires."),
        ("Our miller | retires. Kezia | follows.", "Our miller | retires."),
    ],
    ids=["in its line", "in another line", "too long", "a table's row"],
)
def test_short_answer_takes_along_what_follows_in_its_line(text: str, said: str) -> None:
    passage = Passage(id="a", text=text)
    extract = plan_extract("Which miller retires?", [passage])
    assert extract is not None
    assert grown(passage, extract).of(text) == said


def test_passage_that_is_one_long_list_is_read() -> None:
    # its cost may not grow with the square of what a document holds: the test's own time-out tells
    listed = "\n".join(["a, " * 20 + "abc"] * 375)
    passage = Passage(id="a", text=f"The harbour has 40 moorings.\n{listed}")
    extract = plan_extract("How many moorings does the harbour have?", [passage])
    assert extract is not None
    assert extract.span.of(passage.text) == "The harbour has 40 moorings."


@pytest.mark.timeout(30)
def test_long_question_about_wrapped_lines_without_an_end_is_read() -> None:
    # lines that were broken for their length alone are one sentence: 2,000 words asked of 6,000 in one
    told = "\n".join(" ".join(f"w{number}x" for number in range(at, at + 15)) for at in range(0, 6000, 15))
    question = " ".join(f"q{number}" for number in range(1500)) + " pier"
    extract = plan_extract(question, [Passage(id="a", text=f"{told} pier")])
    assert extract is not None


def test_passage_without_a_word_of_the_question_is_not_quoted() -> None:
    best = Passage(id="a", title="Berths", text="They lie along the pier.", similarity=0.6)
    other = Passage(id="b", text="The library has 40 seats.", similarity=0.8)
    extract = plan_extract("How many berths can guests rent?", [best, other])
    assert extract is not None
    assert extract.passage_index == 0


@pytest.mark.parametrize("passages", [[], [Passage(id="a", text="Peat.")], [Passage(id="a", text="")]])
def test_nothing_is_chosen_where_nothing_fits(passages: list[Passage]) -> None:
    assert plan_extract("What opens the vault?", passages) is None


@settings(deadline=None)
@given(st.text(alphabet="ab ,.A1\n|"), st.text(alphabet="ab1 "))
def test_extract_is_a_piece_of_its_passage(text: str, question: str) -> None:
    passage = Passage(id="a", text=text)
    extract = plan_extract(f"who {question}", [passage])
    if extract is not None:
        piece, whole = extract.span.of(text), grown(passage, extract).of(text)
        assert piece.strip()
        assert whole.startswith(piece)
        assert whole in text


def test_extract_limit_is_that_of_a_short_answer() -> None:
    assert EXTRACT_WORDS == 20
