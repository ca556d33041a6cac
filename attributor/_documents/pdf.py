"""Read the text of a PDF, page by page."""

from io import BytesIO

from attributor._errors import InputError

__all__ = ["read_pages"]


def read_pages(data: bytes, name: str) -> list[str]:
    """The text of each page of a PDF; "" for a page without any.

    Args:
        data: the file.
        name: of the file, for errors.

    Raises:
        InputError: pypdf is not installed; a file that is encrypted, damaged, or holds no text.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError
    except ImportError:
        raise InputError(f"{name} is a PDF, and pypdf is needed to read it: pip install 'attributor[pdf]'") from None
    try:
        reader = pypdf.PdfReader(BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        pages = [] if locked else [page.extract_text().replace("\f", "\n") for page in reader.pages]
    except DependencyError as error:  # ciphers and compressions for which pypdf needs other packages
        raise InputError(f"{name} is a PDF that pypdf cannot read by itself: {error}") from error
    except Exception as error:  # a damaged file can make pypdf raise any exception
        reason = str(error) or type(error).__name__
        raise InputError(f"{name} is damaged, or no PDF: {reason}") from error
    if locked:
        raise InputError(f"{name} is an encrypted PDF; save it without a password, for example by qpdf --decrypt")
    if not any(page.strip() for page in pages):
        count = f"{len(pages)} page{'s' * (len(pages) != 1)}"
        raise InputError(
            f"{name} is a PDF without text on its {count}, probably scanned; recognise its text first, for example by "
            "ocrmypdf"
        )
    return pages
