#!/usr/bin/env python3
"""Renders the templates and snippets of this folder with Jinja2, set up as chat templates expect it,
and writes what comes out to expected_templates.json and expected_snippets.json.

Needs python3-jinja2. Run by hand after a change to the inputs; the tests read only the results.
"""
import datetime
import json
import os
import pathlib
import time

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
NOW = 1753444800  # the tests pass the same instant; rendered in UTC
BOS, EOS = "<s>", "</s>"


class Generation(jinja2.ext.Extension):
    """{% generation %}: prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda fmt: datetime.datetime.fromtimestamp(NOW).strftime(fmt)
    return env


def render(source, conversation):
    variables = {"tools": None, "documents": None, "bos_token": BOS, "eos_token": EOS,
                 "add_generation_prompt": conversation.get("add_generation_prompt", True),
                 "messages": conversation["messages"]}
    variables.update(conversation["kwargs"])
    try:
        return {"text": environment().from_string(source).render(**variables)}
    except Exception as error:  # any failure counts; ours must fail too
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    conversations = json.loads((HERE / "conversations.json").read_text())
    templates = {path.name: [render(path.read_text(), c) for c in conversations]
                 for path in sorted(HERE.glob("*.jinja"))}
    context = {"messages": [{"role": "user", "content": "Hi"}],
               "kwargs": json.loads((HERE / "snippet_variables.json").read_text())}
    sources = (HERE / "snippets.txt").read_text().split("\n----\n")
    snippets = [{"source": s, **render(s, context)} for s in sources]
    for name, value in (("expected_templates", templates), ("expected_snippets", snippets)):
        text = json.dumps(value, ensure_ascii=False, indent=1)
        (HERE / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
