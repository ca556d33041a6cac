"""Files and folders as documents."""

import os
import sys
from io import BytesIO
from pathlib import Path

import pytest
from cli_runs import run
from pdf_files import make_pdf

from attributor import InputError
from attributor._documents import PromptText, page_of, parse_documents, read_files
from attributor.cli.prompt_input import read_prompt_input


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "text", "title", "body"),
    [
        (b"\xef\xbb\xbf Twice.\r\nDaily.\r\n", " Twice.\r\nDaily.\r\n", "ferry times", "Twice.\nDaily."),
        (b"\n Times :  \r\n\r\n Twice.\rDaily.", "\n Times :  \r\n\r\n Twice.\rDaily.", "Times", "Twice.\nDaily."),
        (b"Times:\rTwice.", "Times:\rTwice.", "Times", "Twice."),
        (b"Times:\n\n", "Times:\n\n", "ferry times", "Times:"),
        (b":\nTwice.", ":\nTwice.", "ferry times", ":\nTwice."),
        ("Cafe\u0301:\nOu\u0300 ?".encode(), "Cafe\u0301:\nOu\u0300 ?", "Cafe\u0301", "Ou\u0300 ?"),
        (b"Page one.\fPage two.", "Page one.\fPage two.", "ferry times", "Page one.\nPage two."),
    ],
)
def test_the_text_stays_unchanged_and_the_title_precedes_the_body(tmp_path, data, text, title, body):
    path = write(tmp_path / "ferry_times.txt", data)
    ((document,), notes) = read_files([path])
    assert (document.text, document.title, notes) == (text, title, ())
    shown = PromptText.of(document)
    assert shown.text == body
    letters = [text[start] for start, character in zip(shown.boundaries, body, strict=False) if character != "\n"]
    assert "".join(letters) == body.replace("\n", "")
    assert document.metadata == {"path": str(path)}


def test_leading_white_space_of_a_file_is_skipped_fast(tmp_path):
    path = write(tmp_path / "a.txt", b" " * 1_000_000 + b"Title" + b" " * 1_000_000 + b":\nText.")
    assert PromptText.of(parse_documents(path)[0]).text == "Text."


def test_a_folder_is_read_and_its_other_files_are_noted(tmp_path):
    folder = tmp_path / "notes"
    for name in ("b.md", "a.TXT", "table.csv", "letter.docx", ".hidden", ".hidden.txt", "no_suffix"):
        write(folder / name, name.encode())
    write(folder / "c.pdf", make_pdf(["Text of a page."]))
    write(folder / "inner" / "d.txt", b"not read")
    documents, notes = read_files([folder, folder / "table.csv"])
    assert [d.title for d in documents] == ["a", "b", "c", "table"]
    assert notes == (
        f"3 files in {folder} were not read, they are no .txt, .md or .pdf: letter.docx, no_suffix, table.csv",
        f"1 folder in {folder} was not read: inner",
    )
    with pytest.warns(UserWarning, match="not read") as warned:
        assert parse_documents(["First.", folder])[1:] == documents[:3]
    assert tuple(str(warning.message) for warning in warned) == notes


def test_many_other_files_are_counted(tmp_path):
    for number in range(14):
        write(tmp_path / f"{number:02}.csv", b"")
    with pytest.raises(InputError, match=r"without .txt, .md or .pdf files; it holds 00.csv, .*09.csv and 4 more$"):
        read_files([tmp_path])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_a_folder_are_noted_and_broken_links_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    write(tmp_path / "a.txt", b"text")
    assert "pipe.txt" in read_files([tmp_path])[1][0]
    (tmp_path / "link.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"cannot read .*link.txt: No such file"):
        read_files([tmp_path])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \r\n\f", "a.txt is empty"),
        ("a.txt", b"caf\xe9", r"a.txt is not UTF-8 text \(byte 3 is 0xe9\); convert it first"),
        ("a.txt", "café".encode("utf-16"), "a.txt is not UTF-8 text but looks like UTF-16"),
        ("a.md", b"PK\x03\x04", "a.md is a zip archive or an office document"),
        ("a.pdf", b"", "a.pdf is damaged, or no PDF: "),
        ("a.pdf", b"plain text", "a.pdf is damaged, or no PDF: "),
        ("a.txt", make_pdf(["Text."])[:200], "a.txt is damaged, or no PDF: "),
        (
            "a.pdf",
            make_pdf(["", ""]),
            "a.pdf is a PDF without text on its 2 pages, probably scanned; recognise",
        ),
        ("a.pdf", make_pdf([""]), "without text on its 1 page,"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, data, message):
    pytest.importorskip("pypdf")
    path = write(tmp_path / name, data)
    for documents in (path, ["a", path], tmp_path):
        with pytest.raises(InputError, match=message):
            parse_documents(documents)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none.txt: No such file"):
        parse_documents(["a", tmp_path / "none.txt"])
    with pytest.raises(InputError, match="path must be a file name"):
        parse_documents(Path("a\0b"))


def test_a_pdf_has_page_breaks_and_notes_on_empty_pages(tmp_path):
    pytest.importorskip("pypdf")
    path = write(tmp_path / "ferry_times.pdf", make_pdf(["Times:\nTwice a day.", "", "Not on Sundays."]))
    ((document,), notes) = read_files([path])
    assert document.text == "Times:\nTwice a day.\f\fNot on Sundays."
    assert (document.title, document.body_start) == ("ferry times", 0)
    assert document.metadata == {"path": str(path)}
    assert page_of(document.text, document.text.index("Not")) == 3
    assert notes == (f"1 of 3 pages of {path} hold no text: 2",)


def encrypted(password: str, algorithm: str = "RC4-128") -> bytes:
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter(clone_from=BytesIO(make_pdf(["Text of a page."])))
    writer.encrypt(user_password=password, owner_password="owner", algorithm=algorithm)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_encrypted_pdf_is_read_without_a_password_or_refused(tmp_path):
    path = write(tmp_path / "open.pdf", encrypted(""))
    assert parse_documents(path)[0].text == "Text of a page."
    with pytest.raises(InputError, match=r"locked.pdf is an encrypted PDF; save it without a password"):
        parse_documents(write(tmp_path / "locked.pdf", encrypted("secret")))


def test_a_pdf_that_needs_another_package_names_it(tmp_path, monkeypatch):
    pypdf = pytest.importorskip("pypdf")

    def refuse(*_):
        raise pypdf.errors.DependencyError("cryptography>=3.1 is required for AES algorithm")

    monkeypatch.setattr(pypdf, "PdfReader", refuse)
    with pytest.raises(InputError, match=r"a.pdf is a PDF that pypdf cannot read by itself: cryptography>=3.1"):
        parse_documents(write(tmp_path / "a.pdf", make_pdf(["Text."])))


def test_without_pypdf_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(InputError, match=r"pypdf is needed to read it: pip install 'attributor\[pdf\]'"):
        parse_documents(write(tmp_path / "a.pdf", make_pdf(["Text."])))


def test_the_command_line_reads_the_same_documents(tmp_path):
    pytest.importorskip("pypdf")
    folder = tmp_path / "notes"
    write(folder / "a.txt", b"A:\r\nfirst\r\n")
    write(folder / "b.pdf", make_pdf(["second"]))
    write(folder / "c.csv", b"third")
    prompt = read_prompt_input(documents=[folder], question="Q")
    assert (prompt.documents, prompt.notes) == read_files([folder])
    assert len(prompt.notes) == 1


def test_a_damaged_pdf_is_one_line_on_the_command_line(tmp_path):
    pytest.importorskip("pypdf")
    result = run("ask", "-d", write(tmp_path / "a.pdf", make_pdf(["Text."])[:200]), "-q", "Q")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
