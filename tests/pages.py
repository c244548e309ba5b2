"""Reading the pages that are written: what runs in them, and where they lead."""

from html.parser import HTMLParser


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.links, self.inside, self.text = [], [], False, []

    def handle_starttag(self, tag, attributes):
        if tag == "script":
            self.inside = True
            self.scripts.append("")
        for name, value in attributes:
            outside = name in ("src", "href", "action", "data", "xlink:href") and not (
                value or ""
            ).startswith(("#", "data:"))
            if outside or name.startswith("on"):
                self.links.append((tag, name, value))

    def handle_endtag(self, tag):
        if tag == "script":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data
        else:
            self.text.append(data)


def read_page(text):
    """A page, parsed: `scripts`, `links` out of it or attributes that run something, and `text`."""
    reader = _Reader()
    reader.feed(text)
    return reader


def scripts_and_links(text):
    """(text of each script, links out of the page and attributes that run something)."""
    reader = read_page(text)
    return reader.scripts, reader.links
