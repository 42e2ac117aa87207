"""A conversation with a loaded model: what was said so far, and the next answer within the context that is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from scripts.runtime.foundry import Chat, RuntimeFault


@dataclass
class Conversation:
    """`context`: tokens of a conversation, the answer included; `limit`: tokens of an answer at most, None: what is
    left. `greedy`: the most likely token each time; else as the model's own settings have it.
    """

    chat: Chat
    context: int
    limit: int | None = None
    greedy: bool = False
    system: str = ""
    #: Turns of user and assistant, in order.
    turns: list[dict[str, str]] = field(default_factory=list)
    #: Why the last answer ended: "stop", "length"; "stopped" where the user did.
    ended: str = ""
    #: Tokens of the last answer.
    tokens: int = 0

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that the model is given."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str) -> Iterator[str]:
        """The answer in pieces. Ended early, by Ctrl-C too, what came so far is what was said.

        Raises `RuntimeFault`, and then nothing was said; so where the conversation has filled the context.
        """
        self.turns.append({"role": "user", "content": text})
        said: list[str] = []
        self.ended, self.tokens = "stopped", 0
        try:
            stream = self.chat.stream(self.messages, max_tokens=self._room(), **self._sampling())
            for piece in stream:
                said.append(piece)
                yield piece
            if stream.answer:
                self.ended, self.tokens = stream.answer.finish, stream.answer.completion_tokens
        finally:
            if said:
                self.turns.append({"role": "assistant", "content": "".join(said)})
            elif self.ended == "stopped":
                self.turns.pop()
            else:
                self.turns.append({"role": "assistant", "content": ""})

    def reset(self) -> None:
        """Forget all turns; the system prompt stays."""
        self.turns.clear()

    def _room(self) -> int:
        left = self.context - self.chat.prompt_tokens(self.messages)
        if left < 1:
            found = f"the conversation fills the context of {self.context} tokens"
            raise RuntimeFault(self.chat.model_id, found, "Start a new one, in a chat with /reset, or say less")
        return min(left, self.limit or left)

    def _sampling(self) -> dict[str, float | None]:
        return {"temperature": 0.0 if self.greedy else None}
