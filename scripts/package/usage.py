"""How to use a packaged model from a program, for the model card and the report."""

from __future__ import annotations

import json
from string import Template

#: What to install first.
INSTALL = "pip install foundry-local-sdk"
_SDK = Template("""from foundry_local_sdk import (
    CatalogType, ChatSession, Configuration, FoundryLocalManager, MessageItem, ModelInfoBuilder, Request,
)

FoundryLocalManager.initialize(Configuration(app_name="example"))
catalog = FoundryLocalManager.instance.get_catalog(CatalogType.LOCAL)
if $id not in [model.id for model in catalog.list_models()]:  # once: it stays registered
    with ModelInfoBuilder() as info:
        info.set_string_property("task", "chat-completion")
        catalog.register_model(model_path=$folder, model_id=$id, metadata=info)
model = catalog.get_model_variant($id)
model.load()
with ChatSession(model) as session, Request().add_item(MessageItem.user("Hello")) as request:
    with session.process_request(request) as response:
        print("".join(part.text for item in response for part in item.parts))""")


def sdk(model_id: str, folder: str) -> str:
    """A program that loads the model in `folder` and asks it, by foundry-local-sdk 2.2.1."""
    return _SDK.substitute(folder=json.dumps(folder, ensure_ascii=False), id=json.dumps(model_id))


_HTTP = Template("""# above: Configuration(app_name="example", web=Configuration.WebService(urls="http://127.0.0.1:0"))
FoundryLocalManager.instance.start_web_service()
url = FoundryLocalManager.instance.urls[0].rstrip("/") + "/catalogs/local/v1"

from openai import OpenAI

client = OpenAI(base_url=url, api_key="none")
messages = [{"role": "user", "content": "Hello"}]
print(client.chat.completions.create(model=$id, messages=messages).choices[0].message.content)""")


def http(model_id: str) -> str:
    """What follows in that program to ask the loaded model over HTTP; the address works for other processes too."""
    return _HTTP.substitute(id=json.dumps(model_id))
