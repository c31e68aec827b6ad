"""How does a Markdown file of the specification become clauses, items and contradictions?

Every function takes the text of a file and its name, and raises ValueError naming file and line where the text is
malformed.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

KINDS = ("normative", "reference", "note")
_ID = r"[A-Z]+(?:-[A-Z]+)*-\d+"


@dataclass(frozen=True)
class Clause:
    """One rule: `text` is everything but the lines and the example that have a field of their own."""

    id: str
    title: str
    kind: str
    chapter: str
    ops: tuple[str, ...]
    covers: tuple[str, ...]
    text: str
    example: dict | None
    source: str


@dataclass(frozen=True)
class Item:
    """One statement of a source document, in the words of the ledger."""

    id: str
    area: str
    kind: str
    variant: str
    statement: str
    source: str
    testable: str


@dataclass(frozen=True)
class Contradiction:
    """A place where the sources disagree; grade A had to be decided before a formula could bind."""

    id: str
    grade: str
    title: str
    statement: str


# ---- one file at a time --------------------------------------------------------------
def parse_chapter(text: str, file: str) -> list[tuple[Clause, int]]:
    """The clauses of a chapter, each with the line of its heading. Raises ValueError naming file and line."""
    fences = [number for number, line in enumerate(text.splitlines(), start=1) if line.startswith("```")]
    if len(fences) % 2:
        raise ValueError(f"{file}:{fences[-1]}: a fenced block is not closed")
    parsed: list[tuple[Clause, int]] = []
    body: list[tuple[int, str]] = []
    heading, fenced = None, False
    for number, line in enumerate([*text.splitlines(), None], start=1):
        if line is not None and line.startswith("```"):
            fenced = not fenced
        if line is not None and (fenced or not line.startswith("## ")):
            body.append((number, line))
            continue
        if heading is not None:
            parsed.append((_clause(*heading, body, file), heading[0]))
        if line is not None:
            heading, body = (number, _match_heading(line, file, number)), []
    return parsed


def parse_ledger(text: str, file: str) -> tuple[dict[str, Item], dict[str, Contradiction], dict[str, str]]:
    """Items, contradictions, and the chapter each item belongs to. Raises ValueError naming file and line."""
    items, disputes, chapters = {}, {}, {}
    exceptions: dict[str, str] = {}
    area, default = None, None
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{file}:{number}"
        if match := re.fullmatch(r"## ([A-Z-]+): .+", line):
            area, default = match[1], None
        elif match := re.fullmatch(r"Chapter: (\w+)(?: for (.+))?", line):
            if match[2] is None:
                default = match[1]
            else:
                exceptions |= dict.fromkeys(match[2].split(", "), match[1])
        elif re.match(rf"\| {_ID} \|", line):
            cells = line.strip("| ").split(" | ")
            if len(cells) != 5 or " " not in cells[1]:
                raise ValueError(f"{where}: a row is '| id | kind variant | statement | source | testable as |'")
            kind, variant = cells[1].split(" ", 1)
            item = Item(cells[0], cells[0].rsplit("-", 1)[0], kind, variant, *cells[2:])
            if item.area != area or default is None:
                raise ValueError(f"{where}: {item.id} stands outside its area, or the area has no 'Chapter:' line")
            if item.id in items:
                raise ValueError(f"{where}: {item.id} is there twice")
            items[item.id], chapters[item.id] = item, exceptions.pop(item.id, default)
        elif line.startswith("- **X-"):
            match = re.fullmatch(r"- \*\*(X-\d+) \[([ABC](?:/[ABC])?)\] (.+?)\*\* (.+)", line)
            if match is None or match[1] in disputes:
                raise ValueError(f"{where}: a contradiction is '- **X-n [grade] title.** text', each id once")
            disputes[match[1]] = Contradiction(*match.groups())
    if exceptions:
        raise ValueError(f"{file}: 'Chapter: ... for' names unknown ids {', '.join(exceptions)}")
    return items, disputes, chapters


def parse_discrepancies(
    text: str, file: str, disputes: dict[str, Contradiction], clause_ids: set[str], chapters: set[str]
) -> dict[str, str]:
    """Where each contradiction is shown, by id. Raises ValueError naming file and line."""
    shown, current = {}, None
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{file}:{number}"
        if match := re.match(r"- \*\*(X-\d+) \[(\S+)\] ", line):
            current = disputes.get(match[1])
            if current is None or current.grade != match[2] or current.id in shown:
                raise ValueError(f"{where}: {match[1]} [{match[2]}] is not in the ledger so, or is there twice")
        elif match := re.fullmatch(r"  Shown by: (.+)", line):
            if current is None or current.id in shown:
                raise ValueError(f"{where}: 'Shown by:' belongs to no contradiction")
            shown[current.id] = _shown_by(match[1], where, clause_ids, chapters)
    if missing := [id for id in disputes if id not in shown]:
        raise ValueError(f"{file}: says nothing, or not what shows it, of {', '.join(missing)}")
    return shown


# ---- parts of a clause ---------------------------------------------------------------
def _match_heading(line: str, file: str, number: int) -> re.Match:
    match = re.fullmatch(rf"## ({_ID}) (\S.*?)   \[({'|'.join(KINDS)})\]", line)
    if match is None:
        raise ValueError(f"{file}:{number}: a heading is '## ID Title   [{'|'.join(KINDS)}]', not {line!r}")
    return match


def _clause(start: int, heading: re.Match, body: list[tuple[int, str]], file: str) -> Clause:
    fields, lines, blocks = {}, [], []
    block: tuple[int, list[str]] | None = None
    for number, line in body:
        if line.startswith("```"):
            if block is None:
                block = (number, [])
            else:
                blocks.append(block)
                block = None
        elif block is not None:
            block[1].append(line)
        elif match := re.match(r"(Op|Covers|Source): (.+)", line):
            if match[1] in fields:
                raise ValueError(f"{file}:{number}: {heading[1]} has two '{match[1]}:' lines")
            fields[match[1]] = match[2].strip()
        else:
            lines.append(line)
    text, musts = "\n".join(lines).strip(), len(re.findall(r"\bMUST\b", "\n".join(lines)))
    if musts != (heading[3] == "normative"):
        raise ValueError(f"{file}:{start}: {heading[1]} is [{heading[3]}] and has {musts} MUST")
    if "Source" not in fields:
        raise ValueError(f"{file}:{start}: {heading[1]} has no 'Source:' line")
    ops = tuple(fields["Op"].split(", ")) if "Op" in fields else ()
    if wrong := [name for name in ops if re.fullmatch(r"`[a-z_]+`", name) is None]:
        raise ValueError(f"{file}:{start}: {heading[1]}: 'Op:' takes names in backquotes, not {', '.join(wrong)}")
    ops = tuple(name.strip("`") for name in ops)
    covers = tuple(fields["Covers"].split(", ")) if "Covers" in fields else ()
    example = _example(blocks, ops, heading[1], file)
    return Clause(heading[1], heading[2], heading[3], Path(file).stem, ops, covers, text, example, fields["Source"])


def _example(blocks: list[tuple[int, list[str]]], ops: tuple[str, ...], id: str, file: str) -> dict | None:
    blocks = [(number, lines) for number, lines in blocks if lines and lines[0] == "# example"]
    if not blocks:
        return None
    number, lines = blocks[-1]
    try:
        example = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}:{number}: the example of {id} is not TOML: {error}") from None
    if len(blocks) > 1 or not {"op", "result"} <= set(example) or (ops and example["op"] not in ops):
        raise ValueError(f"{file}:{number}: {id} takes one example, with its op and a result")
    return example


def _shown_by(names: str, where: str, clause_ids: set[str], chapters: set[str]) -> str:
    if names.startswith("open: "):
        if names.removeprefix("open: ") not in chapters:
            raise ValueError(f"{where}: {names!r} names no chapter of the ledger")
        return names
    ids = names.split(", ")
    if unknown := [id for id in ids if id not in clause_ids]:
        raise ValueError(f"{where}: no clause {', '.join(unknown)}")
    return f"covered by {ids[0]}"


# ---- all chapters together -----------------------------------------------------------
def join_chapters(chapters: list[tuple[str, list[tuple[Clause, int]]]], item_ids: set[str]) -> dict[str, Clause]:
    """All clauses by id. Raises ValueError for an id used twice, and for an item covered twice or unknown."""
    found: dict[str, Clause] = {}
    places = [(f"{file}:{number}", clause) for file, parsed in chapters for clause, number in parsed]
    for where, clause in places:
        if clause.id in found:
            raise ValueError(f"{where}: {clause.id} is there twice")
        found[clause.id] = clause
    covered_by: dict[str, str] = {}
    for where, clause in places:
        for id in clause.covers:
            if id not in item_ids:
                raise ValueError(f"{where}: {clause.id} covers {id}, which is not in the ledger")
            if id in found or id in covered_by:
                raise ValueError(f"{where}: {clause.id} covers {id}, which is {covered_by.get(id, 'a clause')} already")
            covered_by[id] = clause.id
    return found
