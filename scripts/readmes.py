#!/usr/bin/env python3
"""Copies README.md files of this workspace's dependencies into a directory: real documents that lie
in the local cargo registry after a build. Used by scripts/quickstart.

Deterministic: the direct dependencies of the workspace come first, then the others by name, one
version of each crate, until the budget (about 1,000 passages) is spent.
"""

import json
import pathlib
import subprocess
import sys

# The splitter made 874 passages of 641,168 characters of READMEs, one in 733; 600 leaves room for
# others. The budget keeps the whole quickstart at a few minutes, far below 1,500 passages.
CHARACTERS_PER_PASSAGE = 600
MAX_PASSAGES = 1000


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


def main():
    target = pathlib.Path(sys.argv[1])
    host = next(line.split()[1] for line in subprocess.run(
        ["rustc", "-vV"], check=True, capture_output=True, text=True).stdout.splitlines() if line.startswith("host:"))
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host))

    members = set(metadata["workspace_members"])
    direct = {
        dependency["pkg"]
        for node in metadata["resolve"]["nodes"]
        if node["id"] in members
        for dependency in node["deps"]
    }
    crates = {}
    for package in metadata["packages"]:
        if package["source"] is None:
            continue
        readme = pathlib.Path(package["manifest_path"]).parent / "README.md"
        if not readme.is_file():
            continue
        version = [int(part) if part.isdigit() else -1 for part in package["version"].split("+")[0].replace("-", ".").split(".")]
        found = (package["id"] in direct, version, readme)
        if package["name"] not in crates or found[:2] > crates[package["name"]][:2]:
            crates[package["name"]] = found

    written = passages = 0
    for name, (_, _, readme) in sorted(crates.items(), key=lambda item: (not item[1][0], item[0])):
        text = readme.read_text(encoding="utf-8", errors="replace")
        needs = 1 + len(text) // CHARACTERS_PER_PASSAGE
        if passages + needs > MAX_PASSAGES:
            continue
        passages += needs
        written += 1
        (target / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"{written} README.md files of {len(crates)} dependencies")
    if written == 0:
        sys.exit("no README.md was found in the local cargo registry; give a directory of documents instead")


if __name__ == "__main__":
    main()
