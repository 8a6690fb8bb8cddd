#!/usr/bin/env python3
"""Three questions that fit a directory of documents, one a line, for scripts/quickstart.

They are made from the first headings (or the names) of three files spread over the directory.
"""

import pathlib
import re
import sys

EXTENSIONS = {".md", ".markdown", ".txt", ".rst", ".html", ".htm"}


def topic(path):
    try:
        head = path.read_text(encoding="utf-8", errors="ignore")[:4000]
    except OSError:
        head = ""
    heading = re.search(r"^#{1,3}\s+(.{3,80}?)\s*#*$", head, re.M) or re.search(r"<title>\s*([^<]{3,80})", head, re.I)
    words = re.split(r"\s[-–—:]\s|:\s", heading.group(1))[0] if heading else path.stem
    return re.sub(r"[\s_\-`*\[\]()!<>]+", " ", words).strip()


def main():
    root = pathlib.Path(sys.argv[1])
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    topics = []
    for at in (0, len(files) // 2, len(files) - 1):
        if files and (name := topic(files[at])) and name not in topics:
            topics.append(name)
    frames = ["What is {} about?", "How does {} work?", "Why would someone use {}?"]
    questions = [frame.format(name) for frame, name in zip(frames, topics)]
    spare = ["What are these documents about?", "How do I get started?", "What should I be careful about?"]
    print("\n".join((questions + spare)[:3]))


if __name__ == "__main__":
    main()
