"""What a model thinks aloud before it answers, in the forms that models and servers leave in the text.

The tags are those of DeepSeek, Qwen and GLM (<think>), Mistral ([THINK]), Kimi (◁think▷), Seed (<seed:think>), Cohere
(<|START_THINKING|>), Gemma (<|channel>thought) and gpt-oss (<|channel|>analysis), and such as prompts ask for.
"""

from __future__ import annotations

import re

_TAG = re.compile(
    r"<(/?)(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)\b[^<>]{0,40}>"
    r"|\[(/?)think\]|◁(/?)think▷|<\|(?:begin|start|(end))_(?:of_)?think(?:ing)?\|>|<\|(?:begin|(end))_of_thought\|>"
    r"|<\|channel>thought|<(channel)\|>",
    re.IGNORECASE,
)
_FINAL = re.compile(r"(?:<\|channel\|>final|\Aanalysis.*assistantfinal)(?:[^<>]{0,40}<\|message\|>)?", re.DOTALL)
_CHANNEL = "<|channel|>"
_TAIL = 200  # characters in which an answer's end is looked for
_END = re.compile(r"(?:\s*(?:<\|[\w ]{2,20}\|>|</s>|<end_of_(?:turn|utterance)>))+\Z")
_WRAPPED = re.compile(
    r"\A\s*<(answer|response|output|final|\|begin_of_(?:box|solution)\|)>"
    r"(.*?)(?:<(?:/\1|\|end_of_(?:box|solution)\|)>\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)


def without_thoughts(text: str) -> str:
    """Return a text without what stands in tags for thinking, one of which may be missing, and without tags around the
    answer.

    >>> without_thoughts("<think>Is it a cat?</think> <answer>A cat sleeps.</answer>")
    'A cat sleeps.'
    """
    *_, said = _FINAL.split(text)
    if said is text and _CHANNEL in text:  # it never came to an answer
        return ""
    said = said.rstrip()
    said = _untagged(said[:-_TAIL] + _END.sub("", said[-_TAIL:]))
    wrapped = _WRAPPED.match(said)
    return (wrapped[2] if wrapped else said).strip()


def _untagged(text: str) -> str:
    said: list[str] = []
    begin, thinking = 0, False
    for tag in _TAG.finditer(text):
        if not any(tag.groups()):
            said += [] if thinking else [text[begin : tag.start()]]
            thinking = True
        else:
            said = said if thinking else []  # the template of the model began the thought
            begin, thinking = tag.end(), False
    return "".join(said if thinking else [*said, text[begin:]])
