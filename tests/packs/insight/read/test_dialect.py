"""Sniffing: forty ways in which programs write tables."""

from __future__ import annotations

import pytest

from sterling.packs.insight.read.dialect import Dialect, sniff


def found(text: str, **options: object) -> Dialect:
    return sniff(text.splitlines(keepends=True), **options)  # type: ignore[arg-type]


# name, text, delimiter, quote, header, records before the header
GOLDEN = [
    ("comma", "id,name\n1,Ann\n2,Bob\n", ",", '"', True, 0),
    ("tab", "id\tname\n1\tAnn\n2\tBob\n", "\t", '"', True, 0),
    ("semicolon", "id;name\n1;Ann\n2;Bob\n", ";", '"', True, 0),
    ("pipe", "id|name\n1|Ann\n2|Bob\n", "|", '"', True, 0),
    ("windows ends", "id,name\r\n1,Ann\r\n2,Bob\r\n", ",", '"', True, 0),
    ("one column", "name\nAnn\nBob\n", ",", '"', True, 0),
    ("one column of figures", "value\n1\n2\n3\n", ",", '"', True, 0),
    ("figures without names", "1,2\n3,4\n5,6\n", ",", '"', False, 0),
    ("dates without names", "2024-01-01,x\n2024-01-02,y\n", ",", '"', False, 0),
    ("all text", "name,city\nAnn,Oslo\nBob,Rome\n", ",", '"', True, 0),
    ("quoted commas", 'id,name\n1,"a, b"\n2,"c, d"\n', ",", '"', True, 0),
    ("quoted semicolons", 'id,name\n1,"a;b;c"\n2,"c;d;e"\n', ",", '"', True, 0),
    ("decimal comma", "x;y\n1,5;2,5\n3,25;4,75\n", ";", '"', True, 0),
    ("decimal comma, tab", "x\ty\n1,5\t2,5\n3,25\t4,75\n", "\t", '"', True, 0),
    ("commas in text, semicolons between", "a;b\nx, y, z;1\nx, y;2\nx;3\n", ";", '"', True, 0),
    ("lists inside cells", "id,tags\n1,a;b;c\n2,d;e;f\n", ",", '"', True, 0),
    ("all quoted", '"id","name"\n"1","Ann"\n"2","Bob"\n', ",", '"', True, 0),
    ("all quoted, semicolon", '"id";"name"\n"1";"Ann, B"\n"2";"Bob, C"\n', ";", '"', True, 0),
    ("single quotes", "id,name\n1,'a, b'\n2,'c, d'\n", ",", "'", True, 0),
    ("apostrophes", "id,name\n1,it's\n2,Bob's\n", ",", '"', True, 0),
    ("backslash escapes", 'id,name\n1,"a \\"b\\", c"\n2,"d \\"e\\", f"\n', ",", '"', True, 0),
    ("doubled quotes", 'id,name\n1,"a ""b"" c"\n2,"d"\n', ",", '"', True, 0),
    ("line ends in cells", 'id,note\n1,"a\nb"\n2,"c\nd"\n', ",", '"', True, 0),
    ("title line", "Monthly report\nid,name\n1,Ann\n2,Bob\n", ",", '"', True, 1),
    ("two title lines", "Report\nMade by us\nid;name\n1;Ann\n2;Bob\n", ";", '"', True, 2),
    ("index column without a name", ",a,b\n0,x,1\n1,y,2\n", ",", '"', True, 0),
    ("years as names", "country,2019,2020\nNorway,1.5,2.5\nItaly,3.5,4.5\n", ",", '"', True, 0),
    ("years as values", "Norway,2019,2020\nItaly,2018,2021\n", ",", '"', False, 0),
    ("spaces after commas", "id, name\n1, Ann\n2, Bob\n", ",", '"', True, 0),
    ("spaces before quotes", 'id, name\n1, "a, b"\n2, "c, d"\n', ",", '"', True, 0),
    ("times hold colons", "at,x\n10:00:00,1\n11:00:00,2\n", ",", '"', True, 0),
    ("trailing delimiter", "a,b,\n1,2,\n3,4,\n", ",", '"', True, 0),
    ("empty cells", "a,b,c\n,,1\n,2,\n", ",", '"', True, 0),
    ("one ragged row", "a,b,c\n1,2,3\n1,2\n1,2,3\n1,2,3\n1,2,3\n", ",", '"', True, 0),
    ("currency", "item,price\npen,$1.50\ncup,$2.00\n", ",", '"', True, 0),
    ("units in names", "speed (m/s),mass [kg]\n1,2\n3,4\n", ",", '"', True, 0),
    ("other alphabets", "имя,город\nАнна,Осло\nБоб,Рим\n", ",", '"', True, 0),
    ("emoji", "mood,n\n😀,1\n😢,2\n", ",", '"', True, 0),
    ("truth values without names", "true,x\nfalse,y\n", ",", '"', False, 0),
    ("last line not ended", "id,name\n1,Ann\n2,Bob", ",", '"', True, 0),
]


@pytest.mark.parametrize(("name", "text", "delimiter", "quote", "header", "skip"), GOLDEN)
def test_each_golden_text_is_cut_as_it_was_meant(
    name: str, text: str, delimiter: str, quote: str, header: bool, skip: int
) -> None:
    dialect = found(text)

    assert (dialect.delimiter, dialect.quote, dialect.header, dialect.skip) == (
        delimiter,
        quote,
        header,
        skip,
    )


def test_there_are_forty_golden_texts_with_forty_names() -> None:
    assert len({name for name, *_ in GOLDEN}) == len(GOLDEN) == 40


def test_an_escape_is_found_only_where_it_is_used() -> None:
    assert found('id,name\n1,"a \\"b\\", c"\n').escape == "\\"
    assert found("path,n\nC:\\temp,1\n").escape == '"'


def test_what_the_person_says_is_taken_as_it_is() -> None:
    dialect = found("1;2\n3;4\n", delimiter=",", header=True)

    assert (dialect.delimiter, dialect.header) == (",", True)
    assert (dialect.delimiter_by, dialect.header_by) == ("given", "given")


def test_the_order_of_ties_does_not_depend_on_anything_but_the_text() -> None:
    assert len({found("a,b;c,d\n1,2;3,4\n") for _ in range(20)}) == 1
