#!/usr/bin/python3
"""Little English stories from a grammar of our own, the demo model's corpus.

A story is drawn in two steps. First its world: two characters, an elder, a
place with corners, things, a time of day. Then its plot is told beat by beat,
each beat in one of several wordings that all refer to the same world; that
keeps names, pronouns and things coherent however the wordings are mixed.

Everything follows from the seed. A tenth of the pairs (hero's kind, plot) is
never drawn for training, so that held-out text holds combinations that the
model has not seen and not only other random choices.
"""
import argparse
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import bpe
import words

GRAMMAR = Path(__file__).with_name("grammar.txt")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
FRAGMENT = re.compile(r"<(\w+)>")
ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
ANY_TIME = ("morning", "afternoon", "evening")

QUESTIONS = ("Can ", "Could ", "Do ", "Have ")

TRAIN, HELD_OUT = "train", "held-out"


@dataclass(frozen=True)
class Plot:
    """One kind of story: its beats, and how a reader may ask for it."""

    name: str
    theme: str
    topics: tuple
    times: tuple
    picks: dict
    beats: tuple


def _options(text):
    return tuple(option.strip() for option in text.split("|"))


def _parse_plot(name, lines):
    split = lines.index("--")
    meta, picks = {}, {}
    for line in lines[:split]:
        key, value = line.split(":", 1)
        if key.startswith("pick "):
            picks[key[5:]] = _options(value)
        else:
            meta[key] = _options(value)
    beats, beat = [], []
    for line in lines[split + 1:] + [""]:
        if line:
            beat.append(line)
        elif beat:
            beats.append(tuple(beat))
            beat = []
    return Plot(name, meta["theme"][0], meta["topics"],
                meta.get("times", ANY_TIME), picks, tuple(beats))


class Grammar:
    """The sections of grammar.txt: plots, and lines by (kind, name)."""

    def __init__(self, path=GRAMMAR):
        self.plots = []
        self.lines = {}
        sections = re.split(r"(?m)^== ", path.read_text("ascii"))[1:]
        for section in sections:
            header, *lines = section.split("\n")
            kind, name = header.split()
            lines = [line.strip() for line in lines
                     if not line.startswith("#")]
            if kind == "plot":
                self.plots.append(_parse_plot(name, lines))
            else:
                self.lines[kind, name] = tuple(filter(None, lines))


class Teller:
    """Draws documents of the corpus from one seed and one split."""

    def __init__(self, seed, split=TRAIN, grammar=None):
        self.random = random.Random(f"{seed} {split}")
        self.split = split
        self.grammar = grammar or Grammar()

    def document(self):
        """The next document, a list of (role, text); "" is plain text."""
        share = self.random.random()
        if share < 0.62:
            return [("", self.story()[0])]
        if share < 0.92:
            return self._system() + self._story_chat()
        return self._system() + self._small_talk()

    def story(self):
        """A story and the world it plays in, as (text, world, plot)."""
        plot, world = self._draw_world()
        text = " ".join([self._opening(plot, world)]
                        + [self._tell(beat, world) for beat in plot.beats[1:]]
                        + self._closing(plot, world))
        return self._tidy(text), world, plot

    def exercise(self):
        """A document of short sentences that repeat the names of a world.

        Nearly every sentence needs a name or thing said before, so what to
        copy from where is learnt from these much sooner than from stories.
        """
        _, world = self._draw_world()
        lines = self.grammar.lines["exercise", "any"]
        text = " ".join(self._tell(lines, world) for _ in range(12))
        return [("", self._tidy(text))]

    def _pick(self, options):
        return self.random.choice(options)

    def _tell(self, lines, world):
        """One of the lines with its choices made and its slots filled."""
        text = self._pick(lines)
        text = FRAGMENT.sub(
            lambda m: self._pick(self.grammar.lines["fragment", m[1]]), text)
        while "[" in text:
            text = CHOICE.sub(lambda m: self._pick(m[1].split("|")), text)
        return text.format_map(world)

    @staticmethod
    def _tidy(text):
        text = re.sub(r"\s+", " ", text).strip()
        text = ARTICLE.sub(r"\1n ", text)
        return re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(),
                      text)

    def _is_held_out(self, kind, plot):
        return zlib.crc32(f"{kind} {plot.name}".encode()) % 10 == 0

    def _draw_world(self):
        plot, kind = self._pick(self.grammar.plots), self._pick(
            sorted(words.KINDS))
        while self._is_held_out(kind, plot) != (self.split == HELD_OUT):
            plot, kind = self._pick(self.grammar.plots), self._pick(
                sorted(words.KINDS))
        hero = self._character(kind)
        friend = self._character(self._pick(sorted(set(words.KINDS) - {kind})),
                                 unlike=hero)
        name, is_girl = self._pick(words.ELDERS)
        place = self._pick(words.PLACES)
        spots = self.random.sample(place.spots, 4)
        things = self.random.sample(words.THINGS, 2)
        time = self._pick(plot.times)
        world = {"h": hero, "f": friend, "p": place, "time": time, "when": "",
                 "e": words.Character(name, "", "", is_girl),
                 "o": self._thing(things[0]), "o2": self._thing(things[1]),
                 "food": self._pick(words.FOODS),
                 "sky": self._pick(words.SKIES[time])}
        world.update(zip(("s1", "s2", "s3", "s4"), spots))
        world.update({slot: self._pick(options)
                      for slot, options in plot.picks.items()})
        return plot, world

    def _thing(self, thing):
        look = self._pick(thing.look.split("|"))
        return words.Thing(thing.name, look, thing.does)

    def _character(self, kind, unlike=None):
        """Somebody of a kind; mostly not of the same sex as `unlike`, so that
        "he" and "she" usually say which of the two is meant."""
        allowed = words.KINDS[kind]
        is_girl = self._pick(allowed) == "g"
        if unlike and len(allowed) == 2 and self.random.random() < 0.8:
            is_girl = not unlike.is_girl
        names = words.GIRLS if is_girl else words.BOYS
        return words.Character(self._pick(names), kind,
                               self._pick(words.TRAITS), is_girl)

    def _opening(self, plot, world):
        """The first beat, with its hero introduced before, in or after it."""
        lines = self.grammar.lines
        style = self._pick(("setting", "setting", "scene", "after", "inside"))
        starts = tuple(line for line in plot.beats[0]
                       if line.startswith("{when}") or style == "after")
        if style == "inside":
            named = self._pick(("One {time}, a {h.trait} {h.kind} named {h}",
                                "A {h.trait} {h.kind} named {h}",
                                "{h} the {h.kind}",
                                "One day, {h} the {h.kind}"))
            starts = tuple(line.replace("{when}{h}", named)
                           for line in starts)
            return self._tell(starts, world)
        when = {"setting": ("One {time}, ", "One {time}, ", "One day, ",
                            "Then, one {time}, "),
                "scene": ("That {time}, ", "", "On this {time}, "),
                "after": ("", "", "One {time}, ")}[style]
        world["when"] = self._pick(when).format_map(world)
        told = self._tell(starts, world)
        intro = self._tell(lines["opener", style], world)
        return f"{told} {intro}" if style == "after" else f"{intro} {told}"

    def _closing(self, plot, world):
        lines = self.grammar.lines
        closing = []
        if self.random.random() < 0.7:
            closing.append(self._tell(lines["moral", plot.theme], world))
        if self.random.random() < 0.6 or not closing:
            closing.append(self._tell(lines["ending", "all"], world))
        return closing

    def _system(self):
        if self.random.random() < 0.7:
            return []
        return [("system", self._tell(self.grammar.lines["system", "any"],
                                      {}))]

    def _ask(self, name, world):
        """A request as people type it: some without capital or full stop."""
        text = self._tidy(self._tell(self.grammar.lines["ask", name], world))
        mark = "?" if text.startswith(QUESTIONS) else "."
        if self.random.random() < 0.2:
            text = text[0].lower() + text[1:]
        return text + self._pick((mark, mark, ""))

    def _topic(self, world, plot, text):
        """What a request names: something that does occur in the story."""
        topics = ["a {h.trait} {h.kind}", "a {h.trait} {h.kind}",
                  "a {h.kind}", "a {h.kind} named {h}", "{h} the {h.kind}",
                  "a {h.kind} and a {f.kind}", "{h} and {f}"]
        topics += 2 * [topic for topic in plot.topics if "{o" not in topic]
        if world["o"].name in text:
            topics += ["a {o}", "a {h.kind} and a {o}"]
            topics += [topic for topic in plot.topics if "{o" in topic]
        return self._tidy("see " + self._pick(topics).format_map(world))[4:]

    def _story_exchange(self):
        text, world, plot = self.story()
        if self.random.random() < 0.2:
            return [("user", self._ask("anything", world)),
                    ("assistant", text)], world
        world["topic"] = self._topic(world, plot, text)
        if self.random.random() < 0.25:
            lead = self._tell(self.grammar.lines["lead", "story"], world)
            text = f"{self._tidy(lead)} {text}"
        return [("user", self._ask("story", world)),
                ("assistant", text)], world

    def _story_chat(self):
        """A request, a story, and sometimes what is said after a story."""
        messages, world = self._story_exchange()
        share = self.random.random()
        if share < 0.25:
            messages += self._question(world)
        elif share < 0.4:
            messages += self._small_talk()[:2]
        elif share < 0.5:
            more, _ = self._story_exchange()
            messages += [("user", self._ask("more", {}))] + more[1:]
        return messages

    def _question(self, world):
        """A question about the story just told, with its answer."""
        asked, answer = self._pick((
            ("Who is {h}?", "{h} is a {h.trait} {h.kind}."),
            ("Who was {f}?", "{f} was a {f.trait} {f.kind}."),
            ("Where did {h} live?", "{h} lived {p.where}."),
            ("What was the name of the {h.kind}?",
             "The {h.kind} was named {h}."),
            ("Who was the friend of {h}?",
             "It was {f}, a {f.trait} {f.kind}."),
            ("What kind of animal or person was {h}?",
             "{h} was a {h.kind}."),
        ))
        return [("user", asked.format_map(world)),
                ("assistant", self._tidy(answer.format_map(world)))]

    def _small_talk(self):
        messages = []
        _, world = self._draw_world()
        for _ in range(self._pick((1, 1, 2, 3))):
            line = self._tell(self.grammar.lines["talk", "any"], world)
            asked, answer = line.split(" => ")
            if self.random.random() < 0.2:
                asked = asked.lower()
            messages += [("user", ARTICLE.sub(r"\1n ", asked)),
                         ("assistant", self._tidy(answer))]
        return messages


def documents(count, seed, split=TRAIN):
    """The first `count` documents of a seed and split."""
    teller = Teller(seed, split)
    return [teller.document() for _ in range(count)]


def marked(document):
    """A document with the special tokens around it that the model reads."""
    parts = [bpe.BEGIN]
    for role, text in document:
        parts.append((bpe.ROLES[role] if role else "") + text)
        if role in ("", "assistant"):
            parts.append(bpe.END)
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=(TRAIN, HELD_OUT), default=TRAIN)
    parser.add_argument("--marked", action="store_true",
                        help="as the model reads it: with special tokens, without line breaks")
    args = parser.parse_args()
    for document in documents(args.count, args.seed, args.split):
        if args.marked:
            print(marked(document), end="")
            continue
        for role, text in document:
            print(f"[{role}] {text}" if role else text)
        print()


if __name__ == "__main__":
    main()
